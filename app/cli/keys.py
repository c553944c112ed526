"""`tunesmith keys`: the API keys of your team."""

from typing import Annotated

import typer

from app.cli.session import session_of

keys = typer.Typer(help="API keys of your team.", no_args_is_help=True)


@keys.command("list")
def list_command(context: typer.Context) -> None:
    """The keys of your team, without their texts."""
    session = session_of(context)
    with session.client() as client:
        columns = ("id", "name", "role", "permissions", "hint", "last_used_at", "expires_at", "revoked_at")
        session.show_list(client.pages("/v1/teams/keys"), columns, nothing="No keys.")


@keys.command("create")
def create_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[str, typer.Option(help="viewer, trainer or admin.")] = "trainer",
    expires_after_seconds: Annotated[int | None, typer.Option(help="Lifetime; without it the key lives on.")] = None,
    permission: Annotated[
        list[str] | None, typer.Option(help="Narrow the key to this right, such as files:read; may be repeated.")
    ] = None,
) -> None:
    """Make a key. Its text is shown this once only."""
    session = session_of(context)
    body: dict[str, str | int | list[str]] = {"name": name, "role": role}
    if permission:
        body["permissions"] = permission
    if expires_after_seconds is not None:
        body["expires_after_seconds"] = expires_after_seconds
    with session.client() as client:
        session.show(client.post("/v1/teams/keys", body))


@keys.command("revoke")
def revoke_command(context: typer.Context, key_id: str) -> None:
    """Revoke a key; it stops working at once."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.delete(f"/v1/teams/keys/{key_id}"))


@keys.command("first")
def first_command() -> None:
    """For the operator of a service: an admin key, made straight in the database that the settings name."""
    # Here, because the other commands should not wait for the database's libraries.
    from app.cli.first_key import make_first_key  # noqa: PLC0415

    print(make_first_key())
