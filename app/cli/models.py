"""`tunesmith models`: list, show, download the adapter, delete."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.client import Client
from app.cli.download import Saved, download
from app.cli.session import session_of, size_text

models = typer.Typer(help="Base and fine-tuned models.", no_args_is_help=True)


@models.command("list")
def list_command(context: typer.Context) -> None:
    """All models you can use."""
    session = session_of(context)
    with session.client() as client:
        session.show_list(client.get("/v1/models")["data"], ("id", "owned_by", "created"), nothing="No models yet.")


@models.command("show")
def show_command(context: typer.Context, model: str) -> None:
    """What is known about a model."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.get(f"/v1/models/{model}"))


@models.command("download")
def download_command(
    context: typer.Context,
    model: str,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; default: the model's name.")] = None,
) -> None:
    """Save the adapter of a fine-tuned model as one archive, in PEFT's format."""
    with session_of(context).client() as client:
        saved = download_adapter(client, model, output)
    print(f"{saved.path}  {size_text(saved.bytes)}  sha256 {saved.sha256}")


@models.command("delete")
def delete_command(context: typer.Context, model: str) -> None:
    """Delete a fine-tuned model."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.delete(f"/v1/models/{model}"))


def download_adapter(client: Client, model: str, output: Path | None = None) -> Saved:
    """The adapter archive of `model`; by default named after the model in the current folder."""
    return download(client, f"/v1/models/{model}/adapter", output or Path(archive_name(model)))


def archive_name(model: str) -> str:
    """A file name for a model id: `ft:base:org::abc` → `ft-base-org-abc.tar`."""
    parts = [part for part in model.replace("/", "-").split(":") if part]
    return "-".join(parts) + ".tar"
