"""Evaluation of the summarization recipe: loss, written texts and their ROUGE, latency; base beside tuned."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from app.contracts.reports import Evaluation, Latency, ModelScores, Sample, TextScores
from app.contracts.rows import TextPair
from workers.engine.evaluation.answers import answer_all
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.judgement import Rival, figures, judge
from workers.engine.evaluation.latency import AnswerTime, measure_latency, time_in_turns
from workers.engine.evaluation.metrics import percentile
from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.metrics.texts import likelihood_metrics, text_descriptions, text_metrics
from workers.engine.evaluation.questions import make_questions
from workers.engine.evaluation.rouge import text_scores
from workers.engine.evaluation.scoring import TokenScores, score_rows
from workers.engine.evaluation.statistics.metric import Metric
from workers.engine.evaluation.statistics.quantiles import latency_figures
from workers.engine.inference.seq2seq import BATCH_ROWS, Source, SourceBatch, write_texts
from workers.engine.recipes.pairs import PairIds
from workers.engine.recipes.summarization import chat_rows
from workers.engine.training.lora import AdapterWeights

_SAMPLES = 5
_WRITTEN_ROWS = 32  # texts are long: a few rows say enough
_MOST_TOKENS = 256

Models = dict[str, AdapterWeights | None]


class Writer(Protocol):
    """A family of bases writing texts for some of the held-out rows, by their places in `encoded.rows`."""

    def write(
        self,
        adapter: AdapterWeights | None,
        places: Sequence[int],
        *,
        max_new_tokens: int,
        on_batch: Callable[[int], None],
    ) -> list[str]: ...

    def latency(
        self, models: Models, places: Sequence[int], *, new_tokens: int, on_row: Callable[[], None]
    ) -> dict[str, Latency]: ...


@dataclass(frozen=True)
class _Scored:
    """What is known of one model before its latency is."""

    tokens: TokenScores
    texts: TextScores
    written: list[str]
    metrics: list[Metric]
    descriptions: list[Metric]
    seconds: float


def evaluate_summaries(heldout: Heldout, adapter: AdapterWeights) -> Evaluation:
    """Base beside tuned on the same rows, same tokens, same decoding."""
    rows, spec, progress = heldout.encoded.rows, heldout.spec, heldout.progress
    writer = writer_of(heldout)
    asked = _spread(len(rows), _WRITTEN_ROWS)
    timed = list(range(len(rows)))[: spec.latency_rows]
    progress.total = 2 * (len(rows) + len(asked)) + len(timed) + 2
    models: Models = {"base": heldout.against, "tuned": adapter}
    scored = {name: _score(heldout, writer, asked, model, name) for name, model in models.items()}
    latency = writer.latency(
        models,
        timed,
        new_tokens=min(spec.latency_new_tokens, heldout.resident.ref.context_length - 1),
        on_row=lambda: progress.advance(1, "latency"),
    )
    return Evaluation(
        run_id=spec.run_id,
        rows=len(rows),
        dropped=heldout.encoded.dropped,
        labels=None,
        base=_model_scores(scored["base"], latency["base"], new_tokens=spec.latency_new_tokens, seed=spec.seed),
        tuned=_model_scores(scored["tuned"], latency["tuned"], new_tokens=spec.latency_new_tokens, seed=spec.seed),
        judgement=judge(
            scored["base"].metrics,
            scored["tuned"].metrics,
            decides="rouge_l",
            beside=["rouge1", "chrf_pp", "loss"],
            rivals=[_lead(heldout, asked)],
            base_name=heldout.base_is,
            seed=spec.seed,
        ),
        samples=_samples(heldout, asked, scored["base"].written, scored["tuned"].written),
    )


def writer_of(heldout: Heldout) -> Writer:
    """How the family of this base writes texts for the held-out rows."""
    return _ChatWriter(heldout) if heldout.resident.family == "decoder" else _Seq2SeqWriter(heldout)


def token_limit(target_tokens: Sequence[int]) -> int:
    """Tokens a text may have: enough for 95 of 100 targets, and never more than 256."""
    return min(math.ceil(percentile(target_tokens, 95)), _MOST_TOKENS)


def _score(
    heldout: Heldout, writer: Writer, asked: Sequence[int], adapter: AdapterWeights | None, name: str
) -> _Scored:
    started = time.monotonic()
    rows, progress = heldout.encoded.rows, heldout.progress
    tokens = score_rows(
        heldout.resident,
        adapter,
        rows,
        token_budget=heldout.token_budget,
        recipe=heldout.recipe,
        on_batch=lambda count: progress.advance(count, f"loss, {name}"),
    )
    written = writer.write(
        adapter,
        asked,
        max_new_tokens=token_limit([row.supervised_tokens for row in rows]),
        on_batch=lambda count: progress.advance(count, f"texts, {name}"),
    )
    wanted = cast("Sequence[TextPair]", heldout.wanted)
    references = [wanted[place].target for place in asked]
    sizes = [row.supervised_tokens for row in rows]
    metrics = text_metrics(references, written)
    metrics += likelihood_metrics(tokens.row_nats, sizes, [pair.target for pair in wanted])
    descriptions = text_descriptions(references, [wanted[place].source for place in asked], written)
    texts = text_scores(references, written)
    return _Scored(tokens, texts, written, metrics, descriptions, time.monotonic() - started)


class _ChatWriter:
    """Decoders answer as chat completions do."""

    def __init__(self, heldout: Heldout) -> None:
        self._resident = heldout.resident
        self._poll = heldout.progress.poll
        pairs = cast("Sequence[TextPair]", heldout.wanted)
        self._questions = make_questions(chat_rows(heldout.resident, pairs), heldout.encoded.rows)

    def write(
        self,
        adapter: AdapterWeights | None,
        places: Sequence[int],
        *,
        max_new_tokens: int,
        on_batch: Callable[[int], None],
    ) -> list[str]:
        asked = [self._questions[place] for place in places]
        answers = answer_all(
            self._resident, adapter, asked, max_new_tokens=max_new_tokens, on_batch=on_batch, poll=self._poll
        )
        return [answer.text for answer in answers]

    def latency(
        self, models: Models, places: Sequence[int], *, new_tokens: int, on_row: Callable[[], None]
    ) -> dict[str, Latency]:
        asked = [self._questions[place] for place in places]
        return measure_latency(self._resident, models, asked, new_tokens=new_tokens, on_row=on_row, poll=self._poll)


class _Seq2SeqWriter:
    """Encoder-decoders write."""

    def __init__(self, heldout: Heldout) -> None:
        self._resident = heldout.resident
        self._poll = heldout.progress.poll
        rows = cast("Sequence[PairIds]", heldout.encoded.rows)
        self._sources = [Source(row.source_ids.tolist(), row.is_truncated) for row in rows]

    def write(
        self,
        adapter: AdapterWeights | None,
        places: Sequence[int],
        *,
        max_new_tokens: int,
        on_batch: Callable[[int], None],
    ) -> list[str]:
        texts: list[str] = []
        for start in range(0, len(places), BATCH_ROWS):
            sources = [self._sources[place] for place in places[start : start + BATCH_ROWS]]
            written = write_texts(self._resident, adapter, sources, max_new_tokens=max_new_tokens, poll=self._poll)
            texts += [found.text for found in written]
            on_batch(len(sources))
        return texts

    def latency(
        self, models: Models, places: Sequence[int], *, new_tokens: int, on_row: Callable[[], None]
    ) -> dict[str, Latency]:
        def time_one(adapter: AdapterWeights | None, source: Source) -> AnswerTime:
            started = time.perf_counter()
            batch = SourceBatch(self._resident, adapter, [source.token_ids], ignores_end_tokens=True)
            batch.step()
            first = time.perf_counter()
            for _ in range(new_tokens - 1):
                batch.step()
                self._poll()
            return AnswerTime(first - started, time.perf_counter() - started, new_tokens)

        return time_in_turns(models, [self._sources[place] for place in places], time_one, on_row=on_row)


def _spread(rows: int, most: int) -> list[int]:
    """At most `most` places spread over a file of `rows`."""
    count = min(rows, most)
    return [place * rows // count for place in range(count)]


def _lead(heldout: Heldout, asked: Sequence[int]) -> Rival:
    """The beginning of the source, as long as the references are on average."""
    pairs = [cast("TextPair", heldout.wanted[place]) for place in asked]
    words = max(1, round(sum(len(pair.target.split()) for pair in pairs) / len(pairs)))
    written = [" ".join(pair.source.split()[:words]) for pair in pairs]
    metrics = text_metrics([pair.target for pair in pairs], written)
    return Rival("lead", f"the first {words} words of the source", metrics, lacks=("loss",))


def _model_scores(scored: _Scored, latency: Latency, *, new_tokens: int, seed: int) -> ModelScores:
    return ModelScores(
        loss=scored.tokens.loss,
        token_accuracy=scored.tokens.token_accuracy,
        supervised_tokens=scored.tokens.supervised_tokens,
        text=scored.texts,
        figures=(
            *figures([*scored.metrics, *scored.descriptions], seed=seed),
            *latency_figures(latency.end_to_end_ms, signature=signature(at_once=1, tokens=new_tokens)),
        ),
        latency=latency,
        evaluation_seconds=scored.seconds,
    )


def _samples(heldout: Heldout, asked: Sequence[int], base: Sequence[str], tuned: Sequence[str]) -> tuple[Sample, ...]:
    wanted = cast("Sequence[TextPair]", heldout.wanted)
    pairs = [wanted[place] for place in asked]
    return tuple(
        Sample(
            line=pairs[place].line,
            prompt=pairs[place].source,
            expected=pairs[place].target,
            base=base[place],
            tuned=tuned[place],
        )
        for place in _spread(len(asked), _SAMPLES)
    )
