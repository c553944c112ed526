"""Rows as their recipe would train on them: the encoding of a run, shown instead of learned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from app.contracts.previews import (
    OUTSIDE,
    CutSide,
    PartName,
    Preview,
    PreviewPart,
    PreviewRow,
    PreviewSpec,
    PreviewTotals,
)
from app.contracts.rows import LabelledText, Row, TaggedText, TextPair
from workers.engine.base_model import ResidentBase
from workers.engine.inference.token_text import TokenText
from workers.engine.previews.segments import read_segments, spoken_segments
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.pairs import PairIds
from workers.engine.recipes.preference import EncodedPair
from workers.engine.recipes.recipe import EncodedRows
from workers.engine.recipes.tags import to_spans
from workers.engine.recipes.templates import EncodedRow
from workers.engine.recipes.text_classification import LabelledIds
from workers.engine.recipes.texts import tokenise
from workers.engine.recipes.token_classification import TaggedIds
from workers.engine.text_side import TextSide

_UNLIMITED = 2**31 - 1


def preview(side: TextSide, spec: PreviewSpec) -> Preview:
    """Every row of the request, in its order: encoded, or dropped with the reason a run would report.

    Usage failure `unsupported_task` for a base on which this recipe cannot be trained.
    """
    shown = _Rows(side, spec)
    rows = tuple(shown.all())
    totals = PreviewTotals(
        rows=len(rows),
        dropped_rows=sum(row.dropped is not None for row in rows),
        truncated_rows=sum(row.is_truncated for row in rows),
        tokens=sum(row.tokens for row in rows),
        trained_tokens=sum(row.trained_tokens for row in rows),
    )
    return Preview(max_length=shown.limit, rows=rows, totals=totals)


@dataclass(frozen=True)
class _Rows:
    side: TextSide
    spec: PreviewSpec

    @property
    def limit(self) -> int:
        return min(self.spec.max_length, self.spec.base.context_length)

    def all(self) -> Iterator[PreviewRow]:
        text = TokenText(self.side.tokenizer)
        encoded = _encode(self.side, self.spec, self.spec.rows, self.spec.max_length)
        kept = {row.line: row for row in encoded.rows}
        whole = self._uncut([row for row in self.spec.rows if row.line in kept and kept[row.line].is_truncated])
        reasons = dict(encoded.dropped)
        for row in self.spec.rows:
            if row.line in reasons:
                yield PreviewRow(line=row.line, dropped=reasons[row.line])
                continue
            found = kept[row.line]
            yield PreviewRow(
                line=row.line,
                labels=row.labels if isinstance(row, LabelledText) else None,
                is_truncated=found.is_truncated,
                tokens=found.tokens,
                trained_tokens=found.supervised_tokens,
                parts=self._parts(text, row, found, whole.get(row.line, found)),
            )

    def _uncut(self, rows: Sequence[Row]) -> dict[int, Any]:
        """The same rows on a base without end, by line: what was cut is the difference."""
        ref = self.side.ref.model_copy(update={"context_length": _UNLIMITED})
        encoded = _encode(replace(self.side, ref=ref), self.spec, rows, _UNLIMITED)
        return {row.line: row for row in encoded.rows}

    def _parts(self, text: TokenText, row: Row, found: Any, whole: Any) -> tuple[PreviewPart, ...]:
        """`whole` is the row as it would be without a limit."""
        if isinstance(row, LabelledText | TaggedText):
            return (self._read(row.text, found, whole),)
        if isinstance(found, EncodedPair):
            return (
                self._spoken(text, "preferred", found.preferred, whole.preferred),
                self._spoken(text, "non_preferred", found.other, whole.other),
            )
        if isinstance(found, PairIds):
            return self._pair(text, found, whole)
        # Where a pair of texts is a prompt and its answer, the source loses its end, in the middle of the row.
        side: CutSide = "middle" if isinstance(row, TextPair) else "left"
        return (self._spoken(text, "row", found, whole, side),)

    def _read(self, text: str, found: LabelledIds | TaggedIds, whole: LabelledIds | TaggedIds) -> PreviewPart:
        tokens = tokenise(cast("ResidentBase", self.side), text, self.limit)
        tags = _tags(found, tokens.word_ids, self.spec.labels or ()) if isinstance(found, TaggedIds) else None
        return PreviewPart(
            name="text",
            tokens=found.tokens,
            trained_tokens=found.supervised_tokens,
            cut_tokens=whole.tokens - found.tokens,
            cut_side="right",
            segments=read_segments(self.side.tokenizer, text, tokens, tags),
        )

    def _pair(self, text: TokenText, found: PairIds, whole: PairIds) -> tuple[PreviewPart, PreviewPart]:
        """The source an encoder reads, the target its decoder writes."""
        source, target = found.source_ids.tolist(), found.target_ids.tolist()
        return (
            PreviewPart(
                name="source",
                tokens=len(source),
                trained_tokens=0,
                cut_tokens=len(whole.source_ids) - len(source),
                cut_side="right",
                segments=spoken_segments(text, source, [False] * len(source), ()),
            ),
            PreviewPart(
                name="target",
                tokens=len(target),
                trained_tokens=len(target),
                segments=spoken_segments(text, target, [True] * len(target), ()),
            ),
        )

    def _spoken(
        self, text: TokenText, name: PartName, found: EncodedRow, whole: EncodedRow, cut_side: CutSide = "left"
    ) -> PreviewPart:
        return PreviewPart(
            name=name,
            tokens=found.tokens,
            trained_tokens=found.supervised_tokens,
            cut_tokens=whole.tokens - found.tokens,
            cut_side=cut_side,
            segments=spoken_segments(
                text, found.input_ids.tolist(), found.is_supervised.tolist(), self.side.stop_token_ids
            ),
        )


def _encode(side: TextSide, spec: PreviewSpec, rows: Sequence[Row], max_length: int) -> EncodedRows:
    # Encoding asks a base for its text side only; a test encodes rows of every kind without weights.
    resident = cast("ResidentBase", side)
    recipe = open_recipe(resident, spec.recipe, labels=spec.labels, is_multi_label=spec.is_multi_label)
    return recipe.encode(rows, max_length=max_length, on_progress=lambda _done: None)


def _tags(row: TaggedIds, word_ids: Sequence[int | None], labels: Sequence[str]) -> list[tuple[str, int] | None]:
    """For each token the label of its word's entity and the entity's number; None for a token of no word."""
    owners = [(OUTSIDE, 0)] * len(row.words)
    for number, (span, places) in enumerate(to_spans(row.tags, row.words, labels), start=1):
        for place in places:
            owners[place] = (span.label, number)
    starts = set(row.places.tolist())
    result: list[tuple[str, int] | None] = []
    word = -1
    for place, word_id in enumerate(word_ids):
        word += place in starts
        result.append(None if word_id is None or word < 0 else owners[word])
    return result
