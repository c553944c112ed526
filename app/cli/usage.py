"""`tunesmith usage`: what was used and what it costs, as a table or as the ledger's lines."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.download import download
from app.cli.session import session_of

_DAY_SECONDS = 86_400


def usage(
    context: typer.Context,
    days: Annotated[int, typer.Option(help="Up to now.", min=1, max=366)] = 30,
    csv: Annotated[Path | None, typer.Option(help="Save the lines of the ledger here instead.")] = None,
) -> None:
    """Costs by team and item; an operator sees all teams, an admin the own."""
    session = session_of(context)
    start_time = int(time.time()) - days * _DAY_SECONDS
    with session.client() as client:
        if csv is not None:
            saved = download(client, f"/v1/organization/usage/export.csv?start_time={start_time}", csv)
            print(saved.path)
            return
        rows = _summed(_results(client, start_time))
    columns = ("project_id", "line_item", "quantity", "unit", "cost", "currency")
    session.show_list(rows, columns, nothing=f"Nothing was used in the last {days} days.")


def _results(client: Client, start_time: int) -> Iterator[dict[str, Any]]:
    """The groups of every day, page by page."""
    page: str | None = None
    while True:
        query = f"group_by=project_id&group_by=line_item&start_time={start_time}&limit=180"
        found = client.get(f"/v1/organization/costs?{query}" + ("" if page is None else f"&page={page}"))
        for bucket in found["data"]:
            yield from bucket["results"]
        page = found["next_page"]
        if page is None:
            return


def _summed(results: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for result in results:
        row = sums.setdefault(
            (result["project_id"], result["line_item"]),
            {
                "project_id": result["project_id"],
                "line_item": result["line_item"],
                "quantity": 0.0,
                "unit": result["quantity_unit"],
                "cost": 0.0,
                "currency": result["amount"]["currency"],
            },
        )
        row["quantity"] += result["quantity"]
        row["cost"] += result["amount"]["value"]
    return [sums[key] for key in sorted(sums)]
