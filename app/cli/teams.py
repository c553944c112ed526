"""`tunesmith teams`: teams, their members and service accounts; an admin's own team, an operator's all."""

from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.session import session_of

teams = typer.Typer(help="Teams, members and service accounts.", no_args_is_help=True)
_PROJECTS = "/v1/organization/projects"
Team = Annotated[str | None, typer.Option("--team", help="Id of a team; yours if not given.")]


@teams.command("list")
def list_command(
    context: typer.Context,
    archived: Annotated[bool, typer.Option("--archived", help="The archived ones too.")] = False,
) -> None:
    """The teams that you look after."""
    session = session_of(context)
    with session.client() as client:
        found = client.pages(_PROJECTS, include_archived=str(archived).lower())
        session.show_list(found, ("id", "name", "slug", "status", "created_at"), nothing="No teams.")


@teams.command("create")
def create_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What people call the team.")],
    slug: Annotated[str | None, typer.Option(help="Its name in the names of models; made from NAME if absent.")] = None,
    key: Annotated[bool, typer.Option("--key", help="Make an admin's service account, and show its key.")] = False,
) -> None:
    """Make a team. For operators."""
    session = session_of(context)
    with session.client() as client:
        team = client.post(_PROJECTS, {"name": name} if slug is None else {"name": name, "slug": slug})
        if key:
            account = client.post(
                f"{_PROJECTS}/{team['id']}/service_accounts", {"name": "first admin", "role": "admin"}
            )
            team = {**team, "key": account["api_key"]["value"]}
        session.show(team)


@teams.command("rename")
def rename_command(context: typer.Context, name: str, team: Team = None) -> None:
    """Give a team another name; its slug stays."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.post(f"{_PROJECTS}/{team_or_own(client, team)}", {"name": name}))


@teams.command("archive")
def archive_command(context: typer.Context, team_id: str) -> None:
    """End a team: all its keys stop at once. For operators."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.post(f"{_PROJECTS}/{team_id}/archive", {}))


@teams.command("members")
def members_command(context: typer.Context, team: Team = None) -> None:
    """The people of a team."""
    session = session_of(context)
    with session.client() as client:
        columns = ("id", "email", "name", "role", "added_at")
        session.show_list(
            client.pages(f"{_PROJECTS}/{team_or_own(client, team)}/users"), columns, nothing="No members."
        )


@teams.command("add-member")
def add_member_command(
    context: typer.Context,
    email: str,
    role: Annotated[str, typer.Option(help="viewer, trainer or admin.")] = "trainer",
    team: Team = None,
) -> None:
    """Make a person a member."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.post(f"{_PROJECTS}/{team_or_own(client, team)}/users", {"email": email, "role": role}))


@teams.command("remove-member")
def remove_member_command(context: typer.Context, user_id: str, team: Team = None) -> None:
    """End a membership; the person's keys of this team stop at once."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.delete(f"{_PROJECTS}/{team_or_own(client, team)}/users/{user_id}"))


@teams.command("accounts")
def accounts_command(context: typer.Context, team: Team = None) -> None:
    """The service accounts of a team."""
    session = session_of(context)
    with session.client() as client:
        columns = ("id", "name", "team_role", "created_at")
        path = f"{_PROJECTS}/{team_or_own(client, team)}/service_accounts"
        session.show_list(client.pages(path), columns, nothing="No service accounts.")


@teams.command("add-account")
def add_account_command(
    context: typer.Context,
    name: str,
    role: Annotated[str, typer.Option(help="viewer, trainer or admin.")] = "trainer",
    expires_after_seconds: Annotated[int | None, typer.Option(help="Lifetime of its key.")] = None,
    team: Team = None,
) -> None:
    """Make a service account. The text of its key is shown this once only."""
    session = session_of(context)
    body: dict[str, Any] = {"name": name, "role": role}
    if expires_after_seconds is not None:
        body["expires_in_seconds"] = expires_after_seconds
    with session.client() as client:
        session.show(client.post(f"{_PROJECTS}/{team_or_own(client, team)}/service_accounts", body))


@teams.command("remove-account")
def remove_account_command(context: typer.Context, account_id: str, team: Team = None) -> None:
    """End a service account and its keys, at once."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.delete(f"{_PROJECTS}/{team_or_own(client, team)}/service_accounts/{account_id}"))


def team_or_own(client: Client, team: str | None) -> str:
    """The team that is named, else the one of the key."""
    return team or str(client.get("/v1/organization/audit_logs/head")["team"])
