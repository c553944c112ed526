"""Evaluation of the chat recipe: loss, answers where they are labels, latency; base beside tuned."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from app.contracts.reports import ClassScores, Evaluation, Latency, ModelScores, Sample
from app.contracts.rows import ChatRow
from workers.engine.evaluation.answers import answer_all, label_token_limit
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.latency import measure_latency
from workers.engine.evaluation.metrics import class_scores
from workers.engine.evaluation.questions import Question, make_questions
from workers.engine.evaluation.scoring import TokenScores, score_rows
from workers.engine.training.lora import AdapterWeights

_SAMPLES = 5
_SAMPLE_TOKENS = 64


@dataclass(frozen=True)
class _Scored:
    """What is known of one model before its latency is."""

    tokens: TokenScores
    classes: ClassScores | None
    answers: list[str]
    seconds: float


def evaluate_chat(heldout: Heldout, adapter: AdapterWeights) -> Evaluation:
    """Base beside tuned on the same rows, same templates, same decoding."""
    return _Run(heldout).evaluate(adapter)


class _Run:
    """One evaluation's rows and questions."""

    def __init__(self, heldout: Heldout) -> None:
        self._heldout = heldout
        self._resident = heldout.resident
        self._spec = heldout.spec
        self._progress = heldout.progress
        self._encoded = heldout.encoded
        self._questions = make_questions(cast("Sequence[ChatRow]", heldout.rows), heldout.encoded.rows)
        self._asked = self._questions if heldout.spec.labels else self._questions[:_SAMPLES]

    def evaluate(self, adapter: AdapterWeights) -> Evaluation:
        spec = self._spec
        timed = self._questions[: spec.latency_rows]
        self._progress.total += 2 * (len(self._encoded.rows) + len(self._asked)) + len(timed) + 2
        base = self._score(None, "base")
        tuned = self._score(adapter, "tuned")
        latency = measure_latency(
            self._resident,
            {"base": None, "tuned": adapter},
            timed,
            new_tokens=min(spec.latency_new_tokens, self._resident.ref.context_length - 1),
            on_row=lambda: self._progress.advance(1, "latency"),
            poll=self._progress.poll,
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
        tokens = score_rows(
            self._resident,
            adapter,
            self._encoded.rows,
            token_budget=self._heldout.token_budget,
            on_batch=lambda rows: self._progress.advance(rows, f"loss, {name}"),
        )
        answers = answer_all(
            self._resident,
            adapter,
            self._asked,
            max_new_tokens=label_token_limit(self._resident, labels) if labels else _SAMPLE_TOKENS,
            on_batch=lambda rows: self._progress.advance(rows, f"answers, {name}"),
            poll=self._progress.poll,
        )
        classes = class_scores([asked.expected for asked in self._asked], answers, labels) if labels else None
        return _Scored(tokens, classes, answers, time.monotonic() - started)


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
