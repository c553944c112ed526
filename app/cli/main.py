"""The command line `tunesmith`: one root with its global options, errors as one line, exit codes 0, 1 and 2."""

import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from app.cli.audit import audit
from app.cli.bases import bases
from app.cli.chat import chat
from app.cli.demo_command import demo
from app.cli.errors import CommandError
from app.cli.estimate import estimate
from app.cli.evaluate import evaluate
from app.cli.files import files
from app.cli.jobs import jobs, train
from app.cli.keys import keys
from app.cli.load import load
from app.cli.login import login, logout, whoami
from app.cli.models import models
from app.cli.pool import pool
from app.cli.preview import preview
from app.cli.session import Session
from app.cli.teams import teams
from app.cli.up import up
from app.cli.usage import usage
from app.cli.webhooks import webhooks

cli = typer.Typer(
    name="tunesmith",
    help="Self-hosted supervised fine-tuning behind the OpenAI wire.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command()(up)
cli.command()(demo)
cli.command()(preview)
cli.command()(train)
cli.command()(estimate)
cli.command()(evaluate)
cli.command()(chat)
cli.command()(load)
cli.command()(login)
cli.command()(logout)
cli.command()(whoami)
cli.command()(usage)
for _group, _name in (
    (bases, "bases"),
    (files, "files"),
    (jobs, "jobs"),
    (models, "models"),
    (keys, "keys"),
    (pool, "pool"),
    (teams, "teams"),
    (audit, "audit"),
    (webhooks, "webhooks"),
):
    cli.add_typer(_group, name=_name)


@cli.callback()
def root(
    context: typer.Context,
    base_url: Annotated[
        str | None, typer.Option(envvar="TUNESMITH_BASE_URL", help="The service; default: the one of --data-dir.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="TUNESMITH_API_KEY", help="Your key.", show_envvar=True)] = None,
    data_dir: Annotated[
        Path, typer.Option(envvar="TUNESMITH_DATA_DIR", help="Folder of the service on this machine.")
    ] = Path(".tunesmith"),
    as_json: Annotated[bool, typer.Option("--json", help="Answers as JSON, for scripts.")] = False,
) -> None:
    """Self-hosted supervised fine-tuning behind the OpenAI wire."""
    context.obj = Session(base_url, api_key, data_dir, as_json)


@cli.command()
def version() -> None:
    """The version of this program."""
    try:
        print(installed_version("tunesmith"))
    except PackageNotFoundError:
        print("unknown (not installed)")


def main() -> None:
    """The entry point of the installed program."""
    try:
        cli()
    except CommandError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
