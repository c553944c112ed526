"""A small world for tests of evals: a team with a base, an API with a scripted engine, and turns of a cpu worker."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import select

from app.context import Context
from app.db.tables import EvalOutputItem, EvalRun
from app.factory import Services
from app.identity.caller import Caller
from tests.support.scripted_generator import ScriptedGenerator, saying
from workers.supervisor.identity import WorkerName
from workers.supervisor.round import cpu_round
from workers.supervisor.score_run import Scoring

EXACT = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
    "operation": "eq",
}
CLOSE = {
    "type": "text_similarity",
    "name": "close",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
    "evaluation_metric": "fuzzy_match",
    "pass_threshold": 0.6,
}
CUSTOM = {"type": "custom", "item_schema": {"type": "object", "required": ["label"]}, "include_sample_schema": True}


def rows(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    """(label, what was answered) as rows of a jsonl source."""
    return [{"item": {"label": label}, "sample": {"output_text": text}} for label, text in pairs]


def jsonl(content: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "jsonl", "source": {"type": "file_content", "content": list(content)}}


def completions(labels: Sequence[str], **fields: Any) -> dict[str, Any]:
    """The base is asked about each label."""
    return {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": [{"item": {"label": label}} for label in labels]},
        "input_messages": {
            "type": "template",
            "template": [
                {"role": "system", "content": "Answer with one word."},
                {"role": "user", "content": "Repeat: {{item.label}}"},
            ],
        },
        **fields,
    }


class EvalWorld:
    """`turn` does what a cpu worker does, until nothing waits."""

    def __init__(
        self, context: Context, services: Callable[[], AbstractContextManager[Services]], caller: Caller
    ) -> None:
        self.context = context
        self.services = services
        self.caller = caller
        self.generator = ScriptedGenerator(saying("billing"))
        self.name = WorkerName("cpu0", "test-host")

    def turn(self, *, shutdown: threading.Event | None = None, **scoring: Any) -> None:
        settings = Scoring(open_generator=lambda _: self.generator, **scoring)
        cpu_round(self.context, self.name, shutdown or threading.Event(), settings)

    def run_row(self, run_id: str) -> EvalRun:
        with self.services() as s:
            return s.work.session.get_one(EvalRun, run_id)

    def item_rows(self, run_id: str) -> list[EvalOutputItem]:
        with self.services() as s:
            query = select(EvalOutputItem).where(EvalOutputItem.run_id == run_id).order_by(EvalOutputItem.position)
            return list(s.work.session.scalars(query))

    def change(self, run_id: str, **values: Any) -> None:
        """Set columns of a run, as time or another worker would."""
        with self.services() as s:
            run = s.work.session.get_one(EvalRun, run_id)
            for name, value in values.items():
                setattr(run, name, value)

    def add_file(self, *lines: Any) -> str:
        """JSON lines; a text is written as it is."""
        data = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
        with self.services() as s:
            return s.files.create_from_stream(
                self.caller.team_id, self.caller.actor, iter([data]), filename="rows.jsonl", purpose="evals"
            ).id
