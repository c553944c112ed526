"""`tunesmith evaluate`: a fine-tuned model on rows of one's own, beside its base or an earlier model."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.cli.download import download
from app.cli.errors import CommandError
from app.cli.files import upload
from app.cli.report import print_comparison
from app.cli.session import session_of
from app.cli.watch import watch

_PATH = "/v1/evaluations"


def evaluate(
    context: typer.Context,
    *,
    model: Annotated[str, typer.Argument(help="A fine-tuned model, or a checkpoint of one.")],
    file: Annotated[Path, typer.Argument(help="Rows as for training it, none of which it has seen.")],
    against: Annotated[str | None, typer.Option(help="An earlier model of the same base; default: the base.")] = None,
    requirements: Annotated[
        Path | None, typer.Option(help="A sheet of limits; default: that of the job that made the model.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: the evaluation's id, .html.")] = None,
) -> None:
    """Score a model on rows it has not seen, save the report as one HTML page, and say its result."""
    session = session_of(context)
    with session.client() as client:
        body = {
            "model": model,
            "file": upload(client, file)["id"],
            "against": against,
            "requirements": None if requirements is None else requirements.read_text(),
        }
        created = client.post(_PATH, {name: value for name, value in body.items() if value is not None})
        found, _ = watch(client, created["id"], Console(stderr=True) if session.as_json else None, of=_PATH)
        if found["status"] != "succeeded":
            error = found.get("error") or {}
            raise CommandError(f"{found['id']} {found['status']}. {error.get('message') or ''}".strip())
        if session.as_json:
            session.show(found)
            return
        saved = download(client, f"{_PATH}/{found['id']}/report", output or Path(f"{found['id']}.html"))
    print_comparison(found["result"])
    print(f"\n{saved.path}")
