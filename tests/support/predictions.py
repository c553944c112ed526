"""Predictions as a serving engine sends them."""

from typing import Any

from app.contracts.predictions import Entities, Labels, LabelScore, Prediction, Predictions, ScoredSpan, Written


def labels(*scores: tuple[str, float], chosen: tuple[str, ...] | None = None, **fields: Any) -> Labels:
    """Labels with these scores, most likely first; the first is chosen unless others are named."""
    return Labels(
        scores=tuple(LabelScore(label=label, score=score) for label, score in scores),
        chosen=(scores[0][0],) if chosen is None else chosen,
        **fields,
    )


def entity(text: str, word: str, label: str, score: float = 0.9) -> ScoredSpan:
    """The first `word` of `text` as an entity."""
    start = text.index(word)
    return ScoredSpan(start=start, end=start + len(word), label=label, text=word, score=score)


def entities(*spans: ScoredSpan) -> Entities:
    return Entities(spans=spans)


def written(text: str, *, is_cut: bool = False) -> Written:
    return Written(text=text, finish_reason="length" if is_cut else "stop")


def predicted(
    *predictions: Prediction,
    input_tokens: int = 7,
    output_tokens: int = 0,
    truncated: tuple[int, ...] = (),
    **fields: Any,
) -> Predictions:
    return Predictions(
        predictions=predictions,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        truncated=truncated,
        total_ms=1.0,
        **fields,
    )
