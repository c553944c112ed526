"""From tokens to pieces of text that can be shown: what is read, what is learned of it."""

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from app.contracts.previews import Segment
from workers.engine.inference.token_text import TokenText
from workers.engine.recipes.texts import Tokens


@dataclass(frozen=True)
class _Kind:
    """Neighbouring tokens of the same kind make one segment; `entity` keeps apart entities that touch."""

    is_trained: bool = False
    is_control: bool = False
    turn: int = 0
    label: str | None = None
    entity: int = 0


def spoken_segments(
    text: TokenText, token_ids: Sequence[int], is_trained: Sequence[bool], turn_ends: Collection[int]
) -> tuple[Segment, ...]:
    """Tokens with a loss mask, one flag a token.

    White space behind a token that ends a turn still belongs to that turn: templates end lines there.
    """
    turns = _turns(token_ids, turn_ends, lambda token: not text.bytes_of(token, show_special=True).strip())
    kinds = [
        _Kind(is_trained=trained, is_control=token in text.special_ids, turn=turn)
        for token, trained, turn in zip(token_ids, is_trained, turns, strict=True)
    ]

    def decode(places: Sequence[int]) -> str:
        pieces = (text.bytes_of(token_ids[place], show_special=True) for place in places)
        return b"".join(pieces).decode("utf-8", errors="replace")

    return tuple(_joined(token_ids, kinds, decode))


def read_segments(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    tokens: Tokens,
    tags: Sequence[tuple[str, int] | None] | None = None,
) -> tuple[Segment, ...]:
    """A text that is read, not written; `tags` has the label and number of the entity, or of no entity, of each token.

    Shown is the text as it stands in the file, with the tokenizer's own tokens (unknown ones too) by their names.
    """
    special = set(tokenizer.all_special_ids)
    ids = tokens.input_ids.tolist()
    found = tags or [None] * len(ids)
    kinds = [
        _Kind(is_control=token in special) if tag is None else _Kind(is_trained=True, label=tag[0], entity=tag[1])
        for token, tag in zip(ids, found, strict=True)
    ]
    ends = [0, *itertools.accumulate((int(end) for _, end in tokens.offsets), max)]

    def excerpt(places: Sequence[int]) -> str:
        return "".join(piece(place) for place in places)

    def piece(place: int) -> str:
        """White space before a token is shown with it."""
        if ids[place] not in special:
            return text[ends[place] : ends[place + 1]]
        return text[ends[place] : int(tokens.offsets[place][0])] + str(tokenizer.convert_ids_to_tokens(ids[place]))

    return tuple(_joined(ids, kinds, excerpt))


def _joined(
    token_ids: Sequence[int], kinds: Sequence[_Kind], text_of: Callable[[Sequence[int]], str]
) -> Iterator[Segment]:
    for kind, group in itertools.groupby(range(len(token_ids)), key=kinds.__getitem__):
        places = list(group)
        yield Segment(
            text=text_of(places),
            token_ids=tuple(token_ids[place] for place in places),
            is_trained=kind.is_trained,
            is_control=kind.is_control,
            turn=kind.turn,
            label=kind.label,
        )


def _turns(token_ids: Sequence[int], turn_ends: Collection[int], is_blank: Callable[[int], bool]) -> Iterator[int]:
    turn, has_ended = 0, False
    for token in token_ids:
        if has_ended and not is_blank(token):
            turn, has_ended = turn + 1, False
        yield turn
        has_ended = has_ended or token in turn_ends
