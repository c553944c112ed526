"""What the serving process says of rows that may be trained on: which tokens are read, which are learned.

A request is a `PreviewSpec`, POSTed to `/preview`; the answer is one `Preview`, or an error as for `/generate`
(see `generation`). Only the base's tokenizer is loaded: no weights, no GPU.
"""

from typing import Literal

from pydantic import Field

from app.contracts.base import Contract
from app.contracts.rows import Row
from app.contracts.specs import BaseRef, Recipe

MAX_PREVIEW_ROWS = 100
OUTSIDE = "O"
"""The tag of words that are part of no entity."""


class PreviewSpec(Contract):
    """Rows to show as this recipe would train on them."""

    kind: Literal["preview"] = "preview"
    base: BaseRef
    recipe: Recipe = "chat"
    labels: tuple[str, ...] | None = Field(
        default=None, description="of a classification recipe: all labels, in the order of the head's outputs"
    )
    is_multi_label: bool = False
    rows: tuple[Row, ...] = Field(min_length=1, max_length=MAX_PREVIEW_ROWS)
    max_length: int = Field(gt=0, description="tokens a row may have, as in `TrainSpec`")


class Segment(Contract):
    """Neighbouring tokens of one kind. Joined in order, the segments of a part are what the model reads."""

    text: str = Field(description="exact, control tokens by name; bytes that are no UTF-8 show as U+FFFD")
    token_ids: tuple[int, ...]
    is_trained: bool = Field(description="the model learns to write these tokens or, with a `label`, to tag them")
    is_control: bool = Field(default=False, description="tokens of the template that no text can spell")
    turn: int = Field(ge=0, description="counts on after each token that ends a turn")
    label: str | None = Field(
        default=None, description="of token_classification: the entity to find, 'O' outside of one"
    )


PartName = Literal["row", "preferred", "non_preferred", "text", "source", "target"]

CutSide = Literal["left", "middle", "right"]


class PreviewPart(Contract):
    """One sequence of tokens the model reads for a row; most recipes read one a row."""

    name: PartName
    tokens: int
    trained_tokens: int = Field(
        description="tokens that are learned; of text_classification 1 for the text, of token_classification its words"
    )
    cut_tokens: int = Field(default=0, description="tokens that did not fit and are left out")
    cut_side: CutSide = Field(default="left", description="where tokens are left out if any are")
    segments: tuple[Segment, ...]


class PreviewRow(Contract):
    """One row as it would be trained on, or the reason why it would be dropped."""

    line: int = Field(ge=1, description="of the source file")
    dropped: str | None = Field(default=None, description="why nothing is learned from this row; it has no parts then")
    labels: tuple[str, ...] | None = Field(default=None, description="what is learned, of text_classification")
    is_truncated: bool = False
    tokens: int = 0
    trained_tokens: int = 0
    parts: tuple[PreviewPart, ...] = ()


class PreviewTotals(Contract):
    """Sums over the rows of one preview, not over the file they come from."""

    rows: int
    dropped_rows: int
    truncated_rows: int
    tokens: int
    trained_tokens: int


class Preview(Contract):
    """The rows of the request, in its order."""

    max_length: int = Field(description="tokens a row may have: what was asked for, at most the base's context")
    rows: tuple[PreviewRow, ...]
    totals: PreviewTotals
