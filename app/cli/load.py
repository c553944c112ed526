"""`tunesmith load`: how fast a model answers, and at what cost, while requests keep coming."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.client import Connection, is_loopback
from app.cli.demo_rows import TICKETS
from app.cli.errors import CommandError
from app.cli.load_table import print_load
from app.cli.session import duration_text, make_console, session_of
from app.load.answer import AnswerFailed
from app.load.plan import Block, Limits, LoadPlan
from app.load.prompts import read_prompts
from app.load.report import LoadReport, Price, as_json, report_of
from app.load.run import Service, run_load
from app.load.words import summary


def load(
    context: typer.Context,
    *,
    model: Annotated[str, typer.Argument(help="A base or fine-tuned model.")],
    against: Annotated[str | None, typer.Option(help="A second model under the same load, in turns: its base.")] = None,
    rate: Annotated[str, typer.Option(help="Requests a second, arriving at random: 2 or 2/s.")] = "1/s",
    requests: Annotated[int, typer.Option(help="Measured requests of each model.", min=2)] = 100,
    prompts: Annotated[
        Path | None, typer.Option(help="Rows (.jsonl) or a text a line; default: the demo's held-out tickets.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.", min=1)] = 64,
    slo_ttft: Annotated[float | None, typer.Option(help="Limit in ms until the first token.", min=0)] = None,
    slo_e2e: Annotated[float | None, typer.Option(help="Limit in ms until the end of the answer.", min=0)] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="What an hour of the machine costs.", min=0)] = None,
    utilisation: Annotated[
        float, typer.Option(help="Share of the hours paid in which it is as busy as here.", min=0.001, max=1)
    ] = 1.0,
    rounds: Annotated[int, typer.Option(help="Turns each model gets.", min=1)] = 4,
    warm_up: Annotated[int, typer.Option(help="First requests of each turn, thrown away.", min=0)] = 3,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request has failed.", min=0.1)] = 300.0,
    seed: Annotated[int, typer.Option(help="Another seed draws other arrivals.", min=0)] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
) -> None:
    """Measure latency, throughput and cost under a load that does not wait for answers."""
    session = session_of(context)
    try:
        plan = LoadPlan(
            models=[model] if against is None else [against, model],
            prompts=read_prompts(prompts or TICKETS.heldout or TICKETS.training),
            requests=requests,
            rate_per_second=_rate(rate),
            max_tokens=max_tokens,
            rounds=rounds,
            warm_up=warm_up,
            seed=seed,
            timeout_seconds=timeout,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    if against == model:
        raise CommandError("--against names the model itself. Name its base, or leave it out.")
    limits = Limits(_seconds(slo_ttft), _seconds(slo_e2e))
    price = None if price_per_hour is None else Price(price_per_hour, utilisation)
    with session.client() as client:
        report = _measure(plan, client.connection, limits, price)
    if session.as_json or json_output:
        print(json.dumps(as_json(report, summary=summary(report)), ensure_ascii=False))
    else:
        print_load(make_console(), report)


def _measure(plan: LoadPlan, connection: Connection, limits: Limits, price: Price | None) -> LoadReport:
    # On stderr, so that JSON stays alone on stdout.
    print(f"About {duration_text(plan.expected_seconds)} of load, longer if answers are.", file=sys.stderr)

    def on_block(block: Block) -> None:
        turn = block.number // len(plan.models) + 1
        print(f"turn {turn} of {plan.rounds}: {block.model}", file=sys.stderr)

    service = Service(connection.base_url, connection.api_key, reads_proxies=not is_loopback(connection.base_url))
    try:
        records = asyncio.run(run_load(plan, service, on_block=on_block))
    except AnswerFailed as error:
        raise CommandError(f"The first request failed ({error.kind}): {error}") from error
    return report_of(plan, records, limits=limits, price=price)


def _rate(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/s)?", text.strip())
    if found is None or float(found[1]) == 0:
        raise CommandError(f"--rate {text}: write requests a second, above 0: 2 or 0.5/s.")
    return float(found[1])


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
