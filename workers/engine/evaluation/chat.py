"""Evaluation of the chat recipe: loss, answers where they are labels or JSON records, latency; base beside tuned."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from app.contracts.figures import ClassFigures
from app.contracts.reports import Evaluation, Latency, ModelScores, Sample
from app.contracts.rows import ChatRow
from workers.engine.evaluation.answers import Answer, answer_all, label_token_limit
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.judgement import Rival, figures, judge
from workers.engine.evaluation.latency import measure_latency
from workers.engine.evaluation.metrics import class_scores, percentile
from workers.engine.evaluation.metrics.answers import conduct, valid_json
from workers.engine.evaluation.metrics.classes import (
    Labelled,
    class_figures,
    class_metrics,
    confusion,
    labelled_answers,
)
from workers.engine.evaluation.metrics.fields import field_figures, field_metrics, is_record
from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.metrics.texts import likelihood_metrics
from workers.engine.evaluation.questions import Question, learned_text, make_questions
from workers.engine.evaluation.scoring import TokenScores, score_rows
from workers.engine.evaluation.statistics.metric import Metric
from workers.engine.evaluation.statistics.quantiles import latency_figures
from workers.engine.training.lora import AdapterWeights

_SAMPLES = 5
_RECORDS = 64  # records are long: some rows say enough
_SAMPLE_TOKENS, _RECORD_TOKENS = 64, 512


@dataclass(frozen=True)
class _Scored:
    """What is known of one model before its latency is."""

    tokens: TokenScores
    answers: list[Answer]
    metrics: list[Metric]
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
        self._has_records = not heldout.spec.labels and all(is_record(asked.expected) for asked in self._questions)
        self._asked = self._questions
        if not heldout.spec.labels:
            count = min(_RECORDS if self._has_records else _SAMPLES, len(self._questions))
            self._asked = [self._questions[place * len(self._questions) // count] for place in range(count)]

    def evaluate(self, adapter: AdapterWeights) -> Evaluation:
        spec = self._spec
        decides, *beside = self._compared()
        timed = self._questions[: spec.latency_rows]
        self._progress.total += 2 * (len(self._encoded.rows) + len(self._asked)) + len(timed) + 2
        base = self._score(self._heldout.against, "base")
        tuned = self._score(adapter, "tuned")
        latency = measure_latency(
            self._resident,
            {"base": self._heldout.against, "tuned": adapter},
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
            base=self._model_scores(base, latency["base"]),
            tuned=self._model_scores(tuned, latency["tuned"]),
            judgement=judge(
                base.metrics,
                tuned.metrics,
                decides=decides,
                beside=beside,
                rivals=[self._majority()] if spec.labels else [],
                base_name=self._heldout.base_is,
                seed=spec.seed,
            ),
            samples=_samples(self._asked, base.answers, tuned.answers),
        )

    def _compared(self) -> tuple[str, ...]:
        """The figure that decides, and those beside it."""
        if self._spec.labels:
            return ("macro_f1", "accuracy", "loss")
        return ("field_f1", "record_accuracy", "loss") if self._has_records else ("loss",)

    def _token_limit(self) -> int:
        """Tokens an answer may have: of records, half more than nearly all of them take."""
        if self._spec.labels:
            return label_token_limit(self._resident, self._spec.labels)
        if not self._has_records:
            return _SAMPLE_TOKENS
        sizes = [row.supervised_tokens for row in self._encoded.rows]
        return min(math.ceil(1.5 * percentile(sizes, 95)), _RECORD_TOKENS)

    def _majority(self) -> Rival:
        """Always the most frequent answer: of the held-out rows themselves, so no such rule does better."""
        labels, expected = self._spec.labels or (), [asked.expected for asked in self._asked]
        ordered = sorted(expected)
        most = max(ordered, key=ordered.count)
        rows = labelled_answers(expected, [most] * len(expected), labels)
        description = f"always the most frequent answer of the held-out rows: {most}"
        return Rival("majority", description, class_metrics(rows), lacks=("loss",))

    def _score(self, adapter: AdapterWeights | None, name: str) -> _Scored:
        started = time.monotonic()
        limit = self._token_limit()
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
            max_new_tokens=limit,
            on_batch=lambda rows: self._progress.advance(rows, f"answers, {name}"),
            poll=self._progress.poll,
        )
        return _Scored(tokens, answers, self._metrics(tokens, answers, limit), time.monotonic() - started)

    def _metrics(self, tokens: TokenScores, answers: Sequence[Answer], limit: int) -> list[Metric]:
        """What this task's answers are measured by."""
        texts = [answer.text for answer in answers]
        sizes = [row.supervised_tokens for row in self._encoded.rows]
        learned = [learned_text(row) for row in cast("Sequence[ChatRow]", self._heldout.wanted)]
        metrics = likelihood_metrics(tokens.row_nats, sizes, learned)
        if self._spec.labels:
            metrics = [*class_metrics(self._labelled(texts)), *metrics]
        elif self._has_records:
            expected = [asked.expected for asked in self._asked]
            metrics = [*field_metrics(expected, texts), valid_json(texts), *metrics]
        if self._spec.labels or self._has_records:
            metrics += conduct(texts, [answer.is_stopped for answer in answers], max_new_tokens=limit)
        return metrics

    def _breakdown(
        self, rows: Labelled | None, expected: Sequence[str], texts: Sequence[str]
    ) -> tuple[ClassFigures, ...]:
        """Label by label, or field by field."""
        if rows is not None:
            return tuple(class_figures(rows))
        return tuple(field_figures(expected, texts)) if self._has_records else ()

    def _labelled(self, texts: Sequence[str]) -> Labelled:
        return labelled_answers([asked.expected for asked in self._asked], texts, self._spec.labels or ())

    def _model_scores(self, scored: _Scored, latency: Latency) -> ModelScores:
        texts = [answer.text for answer in scored.answers]
        rows = self._labelled(texts) if self._spec.labels else None
        expected = [asked.expected for asked in self._asked]
        return ModelScores(
            loss=scored.tokens.loss,
            token_accuracy=scored.tokens.token_accuracy,
            supervised_tokens=scored.tokens.supervised_tokens,
            classification=class_scores(expected, texts, self._spec.labels) if self._spec.labels else None,
            figures=(
                *figures(scored.metrics, seed=self._spec.seed),
                *latency_figures(
                    latency.end_to_end_ms, signature=signature(at_once=1, tokens=self._spec.latency_new_tokens)
                ),
            ),
            classes=self._breakdown(rows, expected, texts),
            confusion=None if rows is None else confusion(rows),
            latency=latency,
            evaluation_seconds=scored.seconds,
        )


def _samples(asked: Sequence[Question], base: Sequence[Answer], tuned: Sequence[Answer]) -> tuple[Sample, ...]:
    """A few rows spread over the file."""
    count = min(_SAMPLES, len(asked))
    places = [place * len(asked) // count for place in range(count)]
    return tuple(
        Sample(
            line=asked[place].line,
            prompt=asked[place].prompt_text,
            expected=asked[place].expected,
            base=base[place].text,
            tuned=tuned[place].text,
        )
        for place in places
    )
