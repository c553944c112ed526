"""`tunesmith up`: the whole service on this machine until Ctrl-C."""

from pathlib import Path
from typing import Annotated

import typer


def up(
    *,
    data_dir: Annotated[
        Path, typer.Option(help="Folder for database, files, adapters and logs.", envvar="TUNESMITH_DATA_DIR")
    ] = Path(".tunesmith"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8080,
    ready_file: Annotated[
        Path | None, typer.Option(help='Written once it serves: {"base_url", "api_key"} as JSON.')
    ] = None,
) -> None:
    """Run the whole service on this machine until Ctrl-C: database, broker, API, workers, serving engine."""
    # Here, because the other commands should not wait for the database's and broker's libraries.
    from app.cli.run_service import run_service  # noqa: PLC0415

    run_service(data_dir.resolve(), host=host, port=port, ready_file=ready_file)
