"""Held-out rows as questions: the tokens a server would see, and the answer the row wants."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.contracts.rows import ChatRow
from workers.engine.recipes.templates import EncodedRow


@dataclass(frozen=True)
class Question:
    """The last learned answer of a row and everything before it."""

    line: int
    prompt_ids: tuple[int, ...]
    prompt_text: str  # the last message before the answer, for people
    expected: str


def make_questions(rows: Sequence[ChatRow], encoded: Sequence[EncodedRow]) -> list[Question]:
    """One question for each encoded row, cut from its very tokens, so that nothing is rendered twice."""
    by_line = {row.line: row for row in rows}
    return [_question(by_line[item.line], item) for item in encoded]


def learned_text(row: ChatRow) -> str:
    """The answers whose tokens are supervised, as text."""
    return "".join(m.content or "" for m in row.messages if m.role == "assistant" and m.weight != 0)


def _question(row: ChatRow, encoded: EncodedRow) -> Question:
    # The learned tokens of the last answer are the last run of True: its start ends the prompt.
    before = np.flatnonzero(~encoded.is_supervised)
    start = int(before[-1]) + 1
    answer = max(i for i, m in enumerate(row.messages) if m.role == "assistant" and m.weight != 0)
    asked = next((m.content for m in reversed(row.messages[:answer]) if m.content), "")
    return Question(
        line=row.line,
        prompt_ids=tuple(encoded.input_ids[:start].tolist()),
        prompt_text=asked,
        expected=row.messages[answer].content or "",
    )
