"""One evaluation: base beside tuned on the same held-out rows, same templates, same decoding."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from app.contracts.errors import usage
from app.contracts.reports import ClassScores, Evaluation, Latency, ModelScores, Progress, Report, Sample, Stopped
from app.contracts.rows import ChatRow
from app.contracts.specs import EvalSpec
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.answers import answer_all, label_token_limit
from workers.engine.evaluation.latency import measure_latency
from workers.engine.evaluation.metrics import class_scores
from workers.engine.evaluation.questions import Question, make_questions
from workers.engine.evaluation.scoring import TokenScores, score_rows
from workers.engine.inference.adapters import load_verified_adapter
from workers.engine.recipes.chat import encode_rows
from workers.engine.recipes.recipe import EncodedRows
from workers.engine.recipes.rows import read_rows
from workers.engine.training.lora import AdapterWeights

StopReason = Literal["cancel", "pause", "preempt", "shutdown"]
_SAMPLES = 5
_SAMPLE_TOKENS = 64
_CPU_TOKEN_BUDGET, _GPU_TOKEN_BUDGET = 2048, 16384
_ENCODE_PROGRESS_ROWS = 200


class _StopRequestedError(Exception):
    pass


@dataclass(frozen=True)
class _Scored:
    """What is known of one model before its latency is."""

    tokens: TokenScores
    classes: ClassScores | None
    answers: list[str]
    seconds: float


def evaluate(
    resident: ResidentBase,
    spec: EvalSpec,
    report: Callable[[Report], None],
    should_stop: Callable[[], str | None],
) -> None:
    """From rows on disk to one `Evaluation` report, or `Stopped`. Failures are `WorkerFailure`s."""
    try:
        adapter = load_verified_adapter(resident, spec.adapter)
        report(_Run(resident, spec, report, should_stop).evaluate(adapter))
    except _StopRequestedError as stop:
        report(Stopped(run_id=spec.run_id, reason=cast(StopReason, str(stop)), step=0))


class _Run:
    """One evaluation's rows and how far it is."""

    def __init__(
        self,
        resident: ResidentBase,
        spec: EvalSpec,
        report: Callable[[Report], None],
        should_stop: Callable[[], str | None],
    ) -> None:
        self._resident = resident
        self._spec = spec
        self._report = report
        self._should_stop = should_stop
        self._done = 0
        self._total = 0
        rows = cast("tuple[ChatRow, ...]", read_rows(Path(spec.rows), "chat"))
        self._encoded: EncodedRows = encode_rows(
            resident, rows, max_length=spec.max_length, on_progress=lambda done: self._on_encoded(done, len(rows))
        )
        if not self._encoded.rows:
            reasons = "; ".join(f"line {line}: {reason}" for line, reason in self._encoded.dropped[:3])
            raise usage(
                "no_evaluation_rows",
                f"None of the {len(rows)} held-out rows can be evaluated ({reasons or 'the file is empty'}).",
                param="validation_file",
            )
        self._questions = make_questions(rows, self._encoded.rows)
        self._asked = self._questions if spec.labels else self._questions[:_SAMPLES]

    def evaluate(self, adapter: AdapterWeights) -> Evaluation:
        spec = self._spec
        timed = self._questions[: spec.latency_rows]
        self._total = 2 * (len(self._encoded.rows) + len(self._asked)) + len(timed) + 2
        base = self._score(None, "base")
        tuned = self._score(adapter, "tuned")
        latency = measure_latency(
            self._resident,
            {"base": None, "tuned": adapter},
            timed,
            new_tokens=min(spec.latency_new_tokens, self._resident.ref.context_length - 1),
            on_row=lambda: self._advance(1, "latency"),
            poll=self._poll,
        )
        return Evaluation(
            run_id=spec.run_id,
            rows=len(self._encoded.rows),
            dropped=self._encoded.dropped,
            labels=spec.labels,
            base=_model_scores(base, latency["base"]),
            tuned=_model_scores(tuned, latency["tuned"]),
            samples=_samples(self._asked, base.answers, tuned.answers),
        )

    def _score(self, adapter: AdapterWeights | None, name: str) -> _Scored:
        started = time.monotonic()
        labels = self._spec.labels
        default_budget = _CPU_TOKEN_BUDGET if self._resident.device.type == "cpu" else _GPU_TOKEN_BUDGET
        tokens = score_rows(
            self._resident,
            adapter,
            self._encoded.rows,
            token_budget=self._spec.token_budget or default_budget,
            on_batch=lambda rows: self._advance(rows, f"loss, {name}"),
        )
        answers = answer_all(
            self._resident,
            adapter,
            self._asked,
            max_new_tokens=label_token_limit(self._resident, labels) if labels else _SAMPLE_TOKENS,
            on_batch=lambda rows: self._advance(rows, f"answers, {name}"),
            poll=self._poll,
        )
        classes = class_scores([asked.expected for asked in self._asked], answers, labels) if labels else None
        return _Scored(tokens, classes, answers, time.monotonic() - started)

    def _on_encoded(self, done: int, total: int) -> None:
        self._poll()
        if done % _ENCODE_PROGRESS_ROWS == 0 or done == total:
            self._report(Progress(run_id=self._spec.run_id, phase="encode", done=done, total=total))

    def _advance(self, units: int, message: str) -> None:
        self._done += units
        self._report(
            Progress(run_id=self._spec.run_id, phase="evaluate", done=self._done, total=self._total, message=message)
        )
        self._poll()

    def _poll(self) -> None:
        reason = self._should_stop()
        if reason is not None:
            raise _StopRequestedError(reason)


def _model_scores(scored: _Scored, latency: Latency) -> ModelScores:
    return ModelScores(
        loss=scored.tokens.loss,
        token_accuracy=scored.tokens.token_accuracy,
        supervised_tokens=scored.tokens.supervised_tokens,
        classification=scored.classes,
        latency=latency,
        evaluation_seconds=scored.seconds,
    )


def _samples(asked: Sequence[Question], base: Sequence[str], tuned: Sequence[str]) -> tuple[Sample, ...]:
    """A few rows spread over the file."""
    count = min(_SAMPLES, len(asked))
    places = [place * len(asked) // count for place in range(count)]
    return tuple(
        Sample(
            line=asked[place].line,
            prompt=asked[place].prompt_text,
            expected=asked[place].expected,
            base=base[place],
            tuned=tuned[place],
        )
        for place in places
    )
