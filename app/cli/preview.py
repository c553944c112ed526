"""`tunesmith preview`: look at what would be learned from a file, before a job is started."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.errors import CommandError
from app.cli.files import upload
from app.cli.preview_view import PreviewView
from app.cli.session import make_console, session_of

_KEPT_SECONDS = 3600  # should we be stopped before we can delete the file


def preview(
    context: typer.Context,
    *,
    file: Annotated[str, typer.Argument(help="A local file, or the id of an uploaded one (file-…).")],
    base: Annotated[str, typer.Option(help="Id of a base, or of a fine-tuned model to go on from.")],
    rows: Annotated[int, typer.Option(help="How many rows to show.", min=1, max=100)] = 5,
    longest: Annotated[
        bool, typer.Option("--longest", help="The longest rows: what is cut or dropped is here.")
    ] = False,
    random: Annotated[bool, typer.Option("--random", help="Rows drawn from the whole file.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed draws other rows.", min=0)] = 0,
    start_line: Annotated[int, typer.Option(help="Rows from this line of the file on.", min=1)] = 1,
    max_length: Annotated[int | None, typer.Option(help="Tokens a row may have; default: the base's context.")] = None,
    task: Annotated[str | None, typer.Option(help="As for `train`; default: what the rows are.")] = None,
    method: Annotated[str | None, typer.Option(help="supervised or dpo; default: what the rows are.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Fold no long texts.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Mark learned text with ⟦ ⟧ instead of colours.")] = False,
) -> None:
    """Show rows as they would be trained on, with the learned text marked. Uses no GPU and starts no job."""
    if longest and random:
        raise CommandError("Choose one of --longest and --random.")
    session = session_of(context)
    body = {
        "model": base,
        "limit": rows,
        "sample": "longest" if longest else "random" if random else "head",
        "seed": seed,
        "start_line": start_line,
        "max_length": max_length,
        "task": task,
        "method": method,
    }
    with session.client() as client, _uploaded(client, file) as file_id:
        asked = {name: value for name, value in body.items() if value is not None}
        answer = client.post(f"/v1/files/{file_id}/preview", asked, timeout_seconds=600)
    if session.as_json:
        session.show(answer)
        return
    console = make_console()
    view = PreviewView(console, is_plain=plain or console.no_color or console.color_system is None, is_full=full)
    view.show(answer, Path(file).name)


@contextmanager
def _uploaded(client: Client, file: str) -> Iterator[str]:
    """The id of a file at the service: the one given, or that of a local file, deleted again at the end."""
    path = Path(file)
    if file.startswith("file-") and not path.exists():
        yield file
        return
    sent: dict[str, Any] = upload(client, path, expires_after_seconds=_KEPT_SECONDS)
    try:
        yield sent["id"]
    finally:
        client.delete(f"/v1/files/{sent['id']}")
