"""`tunesmith bases`: the base models that can be tuned."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.base_sources import BaseSource, find_source
from app.cli.client import Client
from app.cli.session import make_console, session_of

bases = typer.Typer(help="Base models that can be tuned.", no_args_is_help=True)


@bases.command("add")
def add_command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="smollm2-135m-instruct, all-minilm-l6-v2, a local folder, or an id of Hugging Face (owner/name[@rev])."
        ),
    ],
    base_id: Annotated[str | None, typer.Option("--id", help="Its id here; default: from the source.")] = None,
    licence: Annotated[str | None, typer.Option(help="Its licence; default: what the source says.")] = None,
    bases_dir: Annotated[
        Path | None,
        typer.Option(envvar="TUNESMITH_BASES_DIR", help="The service's folder of bases; default: DATA_DIR/bases."),
    ] = None,
) -> None:
    """Fetch a base model, put it into the service's folder and register it. Can be repeated at no harm."""
    session = session_of(context)
    found = find_source(source, base_id=base_id, licence=licence)
    with session.client() as client:
        session.show(add_base(client, found, bases_dir or session.data_dir / "bases"))


@bases.command("list")
def list_command(context: typer.Context) -> None:
    """The registered bases."""
    session = session_of(context)
    with session.client() as client:
        columns = ("id", "kind", "licence", "context_length", "parameters", "source")
        session.show_list(
            client.get("/v1/bases")["data"], columns, nothing="No bases yet. Add one with `tunesmith bases add`."
        )


@bases.command("show")
def show_command(context: typer.Context, base_id: str) -> None:
    """What is known about a base."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.get(f"/v1/bases/{base_id}"))


@bases.command("remove")
def remove_command(context: typer.Context, base_id: str) -> None:
    """Take a base out of the registry; its folder stays."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.delete(f"/v1/bases/{base_id}"))


def add_base(client: Client, source: BaseSource, bases_dir: Path) -> dict[str, object]:
    """Fetch unless the folder is there, then register; the base object."""
    source.place(bases_dir, make_console())
    body = {"id": source.base_id, "licence": source.licence, "source": source.origin}
    answer: dict[str, object] = client.post("/v1/bases", body, timeout_seconds=600)
    return answer
