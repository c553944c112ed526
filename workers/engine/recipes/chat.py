"""The chat recipe: canonical rows in, encoded rows and an account of every row out."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from app.contracts.errors import transient, usage
from app.contracts.rows import ChatRow
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.templates import EncodedRow, RowRefusedError, encode_row, render_completion_prompt


@dataclass(frozen=True)
class EncodedRows:
    """Every row in one of two lists: len(rows) + len(dropped) == rows_in."""

    rows: tuple[EncodedRow, ...]
    dropped: tuple[tuple[int, str], ...]  # (source line, reason)

    @property
    def rows_in(self) -> int:
        return len(self.rows) + len(self.dropped)

    @property
    def truncated(self) -> int:
        return sum(row.is_truncated for row in self.rows)

    @property
    def tokens(self) -> int:
        return sum(row.tokens for row in self.rows)

    @property
    def supervised_tokens(self) -> int:
        return sum(row.supervised_tokens for row in self.rows)

    @property
    def longest(self) -> int:
        return max((row.tokens for row in self.rows), default=0)


def read_rows(path: Path, sha256: str | None = None) -> tuple[ChatRow, ...]:
    """Canonical rows of a file; a transient failure when its bytes are not those the spec names."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise transient("rows_hash_mismatch", f"The rows file {path.name} has hash {found}, not {sha256}.")
    try:
        return tuple(ChatRow.model_validate_json(line) for line in data.split(b"\n") if line.strip())
    except ValidationError as error:
        raise transient("rows_damaged", f"The rows file {path.name} is no canonical rows file: {error}") from error


def encode_rows(
    resident: ResidentBase,
    rows: tuple[ChatRow, ...],
    *,
    max_length: int,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> EncodedRows:
    """Encode all rows; a row that cannot be trained on is dropped with its reason.

    `on_progress(done)` is called after each row and may raise to stop.
    """
    kept: list[EncodedRow] = []
    dropped: list[tuple[int, str]] = []
    limit = min(max_length, resident.ref.context_length)
    for done, row in enumerate(rows, start=1):
        try:
            kept.append(fit(resident, encode_row(resident.tokenizer, row, resident.stop_token_ids), limit))
        except RowRefusedError as refusal:
            dropped.append((row.line, str(refusal)))
        on_progress(done)
    return EncodedRows(tuple(kept), tuple(dropped))


def require_rows(encoded: EncodedRows, *, param: str) -> None:
    """Usage failure `no_trainable_rows` when nothing is left to train on."""
    if encoded.rows:
        return
    reasons = "; ".join(f"line {line}: {reason}" for line, reason in encoded.dropped[:3])
    raise usage(
        "no_trainable_rows",
        f"None of the {encoded.rows_in} rows can be trained on ({reasons or 'the file is empty'}).",
        param=param,
    )


def fit(resident: ResidentBase, row: EncodedRow, limit: int) -> EncodedRow:
    """Cut the oldest prompt tokens so that the row has at most `limit`; never an answer.

    A BOS at the start stays. `RowRefusedError` when the answers and one prompt token do not fit.
    """
    excess = row.tokens - limit
    if excess <= 0:
        return row
    bos = render_completion_prompt(resident.tokenizer, "")[:1]
    head = len(bos) if row.input_ids[: len(bos)].tolist() == bos else 0
    first_answer = int(np.argmax(row.is_supervised))
    if head + excess >= first_answer:
        raise RowRefusedError(
            f"too long: {row.tokens} tokens, of which {row.tokens - first_answer} from the first answer on; "
            f"the limit is {limit}"
        )
    keep = np.r_[0:head, head + excess : row.tokens]
    return replace(row, input_ids=row.input_ids[keep], is_supervised=row.is_supervised[keep], is_truncated=True)
