"""The page on load explains every option, every line of the table and every name in JSON."""

import inspect
import shlex
from pathlib import Path

import typer

from app.cli.load import load
from app.cli.load_table import TIME_NAMES
from app.cli.main import cli
from app.load.figures import TIMES

PAGE = (Path(__file__).parents[2] / "docs/load.md").read_text()
COMMAND = typer.main.get_command(cli).commands["load"]


def test_every_option_is_explained():
    names = [option for parameter in COMMAND.params for option in parameter.opts if option.startswith("--")]
    assert len(names) > 10
    assert [name for name in names if name != "--help" and f"`{name}" not in PAGE] == []


def test_the_defaults_are_those_of_the_command():
    defaults = inspect.signature(load).parameters
    for option, name in (("rounds", "rounds"), ("warm-up", "warm_up"), ("requests", "requests"), ("rate", "rate")):
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `--{option}`"))
        assert row.endswith(f" | {defaults[name].default} |")


def test_the_example_is_a_command_line():
    block = PAGE.split("```sh\n")[1].split("```")[0]
    words = shlex.split(block.replace("\\\n", " "))
    assert words[:2] == ["tunesmith", "load"]
    assert COMMAND.make_context("load", words[2:]).params["price_per_hour"] == 1.2


def test_every_time_is_named_as_in_the_table_and_in_json():
    assert set(TIME_NAMES) == set(TIMES)
    for key, (name, _) in TIME_NAMES.items():
        assert f"| {name} |" in PAGE
        assert f"`gen_ai.server.{key}`" in PAGE
