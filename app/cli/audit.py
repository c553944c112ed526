"""`tunesmith audit`: what happened in your team, and the proof that nobody changed its record."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.audit.chain import Head
from app.audit.exported import UnreadableExport, read_head, verify_file
from app.cli.client import Client
from app.cli.errors import CommandError
from app.cli.session import session_of

audit = typer.Typer(help="The audit log of your team: list, export, verify.", no_args_is_help=True)
_LOGS = "/v1/organization/audit_logs"
_ROWS = 10_000
Project = Annotated[str | None, typer.Option("--project", help="Whose log; yours if not given.")]


@audit.command("list")
def list_command(
    context: typer.Context, most: Annotated[int, typer.Option("--limit", help="Events at most.")] = 50
) -> None:
    """The newest events."""
    session = session_of(context)
    with session.client() as client:
        columns = ("id", "effective_at", "type", "actor_id", "object_id")
        session.show_list(client.pages(_LOGS, most=most), columns, nothing="No events.")


@audit.command("head")
def head_command(context: typer.Context, project: Project = None) -> None:
    """The end of the chain. Keep it where nobody who runs the database can write."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.get(f"{_LOGS}/head", project_id=project))


@audit.command("export")
def export_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to; one row a line.", dir_okay=False)],
    project: Project = None,
) -> None:
    """Write all rows with their hashes to a file, and the head beside it (FILE.head)."""
    session = session_of(context)
    with session.client() as client, file.open("wb") as out:
        head = client.get(f"{_LOGS}/head", project_id=project)
        after = 0
        while after < head["sequence"]:
            query = {"after": after, "limit": min(_ROWS, head["sequence"] - after)}
            path = f"{_LOGS}/rows"
            parameters = query if project is None else {**query, "project_id": project}
            with client.stream("GET", path, params=parameters) as answer:
                body = answer.read()
            if not body:
                raise CommandError(f"The log ends at row {after}, before its head. Run `tunesmith audit verify`.")
            out.write(body)
            after = json.loads(body.rstrip(b"\n").rpartition(b"\n")[2])["sequence"]
    Path(f"{file}.head").write_text(json.dumps(head) + "\n")
    print(f"{after} rows in {file}, the head in {file}.head")


@audit.command("verify")
def verify_command(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="An export; without it the service's log.")] = None,
    head: Annotated[Path | None, typer.Option(help="A head that was kept, as `audit head --json` gives it.")] = None,
    project: Project = None,
) -> None:
    """Check the hash of every row; the rows that are broken are named, and the exit code is 1."""
    kept = None if head is None else _read_kept_head(head)
    if file is not None:
        checked, faults, last = _verify_file(file, kept)
    else:
        with session_of(context).client() as client:
            checked, faults, last = _verify_service(client, kept, project)
    for fault in faults:
        print(f"{fault['kind']}: {fault['message']}")
    if faults:
        raise CommandError(f"The audit log is broken: {len(faults)} found in {checked} rows.")
    print(f"{checked} rows, unbroken. Head: row {last['sequence']}, {last['sha256']}")


def _read_kept_head(path: Path) -> Head:
    try:
        return read_head(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} does not hold a head as `tunesmith --json audit head` gives it: {error}") from error


def _verify_file(file: Path, kept: Head | None) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    try:
        verdict = verify_file(file, [] if kept is None else [kept])
    except (OSError, UnreadableExport) as error:
        raise CommandError(str(error)) from error
    if kept is not None and verdict.checked and kept.team != verdict.head.team:
        raise CommandError(f"The head is of {kept.team}, and the export of {verdict.head.team}.")
    return verdict.checked, [fault.__dict__ for fault in verdict.faults], verdict.head.__dict__


def _verify_service(
    client: Client, kept: Head | None, project: str | None
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    if kept is not None and project is None:
        project = kept.team
    of_head: dict[str, str | int] = {}
    if kept is not None and kept.sequence:
        of_head = {"head_sequence": kept.sequence, "head_sha256": kept.sha256}
    checked, after = 0, 0
    faults: list[dict[str, Any]] = []
    while True:
        verdict = client.get(f"{_LOGS}/verify", project_id=project, after=after, limit=_ROWS, **of_head)
        checked += verdict["checked"]
        faults += verdict["faults"]
        after = verdict["head"]["sequence"]
        if not verdict["has_more"]:
            return checked, faults, verdict["head"]
