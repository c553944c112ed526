"""`tunesmith files`: upload, list, show, delete, download."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.download import download
from app.cli.errors import CommandError
from app.cli.session import session_of, size_text

files = typer.Typer(help="Training and result files.", no_args_is_help=True)
_COLUMNS = ("id", "filename", "purpose", "bytes", "created_at")


@files.command("upload")
def upload_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A JSON lines file.")],
    purpose: Annotated[str, typer.Option(help="What the file is for.")] = "fine-tune",
) -> None:
    """Upload a file and print its id."""
    session = session_of(context)
    with session.client() as client:
        session.show(upload(client, file, purpose=purpose))


@files.command("list")
def list_command(
    context: typer.Context, limit: Annotated[int, typer.Option(help="Newest first, at most so many.", min=1)] = 50
) -> None:
    """Your team's files."""
    session = session_of(context)
    with session.client() as client:
        session.show_list(client.pages("/v1/files", most=limit), _COLUMNS, nothing="No files yet.")


@files.command("show")
def show_command(context: typer.Context, file_id: str) -> None:
    """What is known about a file."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.get(f"/v1/files/{file_id}"))


@files.command("delete")
def delete_command(context: typer.Context, file_id: str) -> None:
    """Delete a file."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.delete(f"/v1/files/{file_id}"))


@files.command("download")
def download_command(
    context: typer.Context,
    file_id: str,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; default: its own name.")] = None,
) -> None:
    """Save the bytes of a file."""
    with session_of(context).client() as client:
        name = client.get(f"/v1/files/{file_id}")["filename"]
        saved = download(client, f"/v1/files/{file_id}/content", output or Path(Path(name).name))
    print(f"{saved.path}  {size_text(saved.bytes)}  sha256 {saved.sha256}")


def upload(
    client: Client, file: Path, *, purpose: str = "fine-tune", expires_after_seconds: int | None = None
) -> dict[str, Any]:
    """Send the file as it is read; the file object."""
    if not file.is_file():
        raise CommandError(f"There is no file {file}.")
    fields = {"purpose": purpose}
    if expires_after_seconds is not None:
        fields |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(expires_after_seconds)}
    with file.open("rb") as content:
        answer: dict[str, Any] = client.post(
            "/v1/files",
            timeout_seconds=3600,
            data=fields,
            files={"file": (file.name, content, "application/jsonl")},
        )
    return answer
