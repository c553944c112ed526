"""`tunesmith webhooks`: who is told of your team's events, and what was sent."""

from typing import Annotated, Any

import typer

from app.cli.session import session_of
from app.cli.teams import Team, team_or_own

webhooks = typer.Typer(help="URLs that are told when jobs end.", no_args_is_help=True)
_PATH = "/v1/webhook_endpoints"
_JOB_ENDS = ["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"]
EndpointId = Annotated[str, typer.Argument(help="whe_…")]
EventTypes = Annotated[list[str] | None, typer.Option("--event", help="Event type; may be repeated.")]


@webhooks.command("list")
def list_command(context: typer.Context) -> None:
    """Your team's endpoints."""
    session = session_of(context)
    with session.client() as client:
        columns = ("id", "name", "url", "enabled", "event_types")
        session.show_list(client.pages(_PATH), columns, nothing="No webhook endpoints.")


@webhooks.command("events")
def events_command(context: typer.Context) -> None:
    """The event types that can be sent."""
    with session_of(context).client() as client:
        for name in client.get("/v1/webhook_event_types")["data"]:
            print(name)


@webhooks.command("create")
def create_command(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="https://…")],
    name: Annotated[str, typer.Option(help="For people.")] = "webhook",
    event: EventTypes = None,
) -> None:
    """Tell a URL of events (default: the ends of jobs). The signing secret is shown this once only."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.post(_PATH, {"name": name, "url": url, "event_types": event or _JOB_ENDS}))


@webhooks.command("show")
def show_command(context: typer.Context, endpoint_id: EndpointId) -> None:
    """One endpoint."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.get(f"{_PATH}/{endpoint_id}"))


@webhooks.command("update")
def update_command(
    context: typer.Context,
    *,
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option(help="A new URL.")] = None,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    event: EventTypes = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Set it to work, or to rest.")] = None,
) -> None:
    """Change an endpoint, or enable one that was disabled."""
    body = {"url": url, "name": name, "event_types": event or None, "enabled": enabled}
    _post(context, endpoint_id, "", {key: value for key, value in body.items() if value is not None})


@webhooks.command("delete")
def delete_command(context: typer.Context, endpoint_id: EndpointId) -> None:
    """Delete an endpoint."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.delete(f"{_PATH}/{endpoint_id}"))


@webhooks.command("rotate")
def rotate_command(
    context: typer.Context,
    endpoint_id: EndpointId,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="The old secret signs too for 24 hours.")] = False,
) -> None:
    """Make a new signing secret; it is shown this once only."""
    _post(context, endpoint_id, "/rotate_secret", {"keep_old_secret_active_for_24_hours": keep_old})


@webhooks.command("test")
def try_command(
    context: typer.Context,
    endpoint_id: EndpointId,
    event: Annotated[str, typer.Option(help="Event type.")] = _JOB_ENDS[0],
) -> None:
    """Send a sample event now."""
    _post(context, endpoint_id, "/test", {"event_type": event})


@webhooks.command("hosts")
def hosts_command(
    context: typer.Context,
    *,
    allow: Annotated[list[str] | None, typer.Option(help="A host, or *.host for all below it; repeat it.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="No list: every public host.")] = False,
    as_operator: Annotated[bool, typer.Option("--as-operator", help="Change the operator's list.")] = False,
    team: Team = None,
) -> None:
    """To which hosts your team's webhooks may go; `--allow` sets the whole list."""
    session = session_of(context)
    with session.client() as client:
        path = f"/v1/organization/projects/{team_or_own(client, team)}/webhook_hosts"
        name = "operator_hosts" if as_operator else "hosts"
        is_change = bool(allow) or clear
        session.show(client.post(path, {name: allow or None}) if is_change else client.get(path))


@webhooks.command("deliveries")
def deliveries_command(
    context: typer.Context,
    endpoint_id: EndpointId,
    limit: Annotated[int, typer.Option(help="Newest first, at most so many.", min=1)] = 20,
) -> None:
    """What was sent to an endpoint, or waits to be sent."""
    session = session_of(context)
    with session.client() as client:
        rows = list(client.pages(f"{_PATH}/{endpoint_id}/deliveries", most=limit))
    if not session.as_json:
        rows = [{**row, "last_outcome": _last_outcome(row)} for row in rows]
    columns = ("id", "event_type", "status", "attempts", "last_outcome", "created_at")
    session.show_list(rows, columns, nothing="No deliveries yet.")


@webhooks.command("replay")
def replay_command(
    context: typer.Context, endpoint_id: EndpointId, delivery_id: Annotated[str, typer.Argument(help="whd_…")]
) -> None:
    """Send a delivery again."""
    _post(context, endpoint_id, f"/deliveries/{delivery_id}/redeliver", {})


def _post(context: typer.Context, endpoint_id: str, verb: str, body: dict[str, Any]) -> None:
    session = session_of(context)
    with session.client() as client:
        session.show(client.post(f"{_PATH}/{endpoint_id}{verb}", body))


def _last_outcome(delivery: dict[str, Any]) -> str | None:
    if not delivery["outcomes"]:
        return None
    last = delivery["outcomes"][-1]
    return str(last["status_code"] or last["fault"])
