"""What every command shares: the global options, the client made from them, and how answers are shown."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from app.cli.client import Client, find_connection


@dataclass(frozen=True)
class Session:
    """The global options, as typer's context object."""

    base_url: str | None
    api_key: str | None
    data_dir: Path
    as_json: bool

    def client(self) -> Client:
        return Client(find_connection(self.base_url, self.api_key, self.data_dir))

    def show(self, value: Mapping[str, Any]) -> None:
        """One object: its fields, or JSON."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=False))
            return
        width = max((len(name) for name in value), default=0)
        for name, field in value.items():
            if field is not None and name != "object":
                print(f"{name:<{width}}  {_text(name, field)}")

    def show_list(self, items: Iterable[Mapping[str, Any]], columns: Sequence[str], *, nothing: str) -> None:
        """Many objects: a table of `columns`, or one JSON object a line."""
        rows = list(items)
        if self.as_json:
            for row in rows:
                print(json.dumps(row, ensure_ascii=False))
            return
        if not rows:
            print(nothing)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "id")
        for row in rows:
            table.add_row(*(_text(column, row.get(column)) for column in columns))
        make_console().print(table)


def session_of(context: typer.Context) -> Session:
    session = context.find_object(Session)
    if session is None:
        raise RuntimeError("the root command sets the session")
    return session


def program() -> str:
    """How the user can call us again: as just now (`.venv/bin/tunesmith`), or by our name."""
    return sys.argv[0] if Path(sys.argv[0]).name == "tunesmith" else "tunesmith"


def make_console() -> Console:
    """A terminal as it is; without one, plain lines that are never cut to 80 columns."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=200)


_MOMENTS = frozenset(
    {"created", "created_at", "finished_at", "estimated_finish", "expires_at", "effective_at", "last_used_at"}
)


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in _MOMENTS and isinstance(value, int):
        return datetime.fromtimestamp(value, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if name == "bytes" and isinstance(value, int):
        return size_text(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def size_text(count: int) -> str:
    """Bytes for people: 1 kB = 1000 bytes."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def duration_text(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
