"""Evaluation of the chat recipe: loss, answers where they are labels, latency; base beside tuned."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from app.contracts.reports import Evaluation, Latency, ModelScores, Sample
from app.contracts.rows import ChatRow
from workers.engine.evaluation.answers import Answer, answer_all, label_token_limit
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.judgement import Rival, figures, judge
from workers.engine.evaluation.latency import measure_latency
from workers.engine.evaluation.metrics import class_scores
from workers.engine.evaluation.metrics.answers import conduct
from workers.engine.evaluation.metrics.classes import (
    Labelled,
    class_figures,
    class_metrics,
    confusion,
    labelled_answers,
)
from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.metrics.texts import likelihood_metrics
from workers.engine.evaluation.questions import Question, learned_text, make_questions
from workers.engine.evaluation.scoring import TokenScores, score_rows
from workers.engine.evaluation.statistics.metric import Metric
from workers.engine.evaluation.statistics.quantiles import latency_figures
from workers.engine.training.lora import AdapterWeights

_SAMPLES = 5
_SAMPLE_TOKENS = 64


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
        self._asked = self._questions if heldout.spec.labels else self._questions[:_SAMPLES]

    def evaluate(self, adapter: AdapterWeights) -> Evaluation:
        spec = self._spec
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
                decides="macro_f1" if spec.labels else "loss",
                beside=["accuracy", "loss"] if spec.labels else [],
                rivals=[self._majority()] if spec.labels else [],
                base_name=self._heldout.base_is,
                seed=spec.seed,
            ),
            samples=_samples(self._asked, base.answers, tuned.answers),
        )

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
        labels = self._spec.labels
        limit = label_token_limit(self._resident, labels) if labels else _SAMPLE_TOKENS
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
            metrics += conduct(texts, [answer.is_stopped for answer in answers], max_new_tokens=limit)
        return metrics

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
            classes=() if rows is None else tuple(class_figures(rows)),
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
