"""Are the answers labels? A pure rule, so that classification is recognised without being declared."""

from collections import Counter
from collections.abc import Sequence

from app.contracts.rows import ChatRow

MAX_LABEL_CHARACTERS = 64
MAX_LABEL_WORDS = 6
MAX_LABELS = 100
MIN_ROWS_PER_LABEL = 3


def label_candidate(row: ChatRow) -> str | None:
    """The final answer, stripped, if it is short enough to be a label; None otherwise."""
    last = row.messages[-1]
    answer = (last.content or "").strip()
    if not answer or last.tool_calls is not None:
        return None
    is_short = len(answer) <= MAX_LABEL_CHARACTERS and len(answer.split()) <= MAX_LABEL_WORDS
    return answer if is_short else None


def find_labels(train: Sequence[str | None], heldout: Sequence[str | None]) -> tuple[str, ...] | None:
    """The sorted labels of both sides, or None if this is no classification.

    Answers that differ only in case are one label, written as most often. The training rows must have at
    least 2 labels, at most `MAX_LABELS`, and on average `MIN_ROWS_PER_LABEL` rows for each.
    """
    spellings: dict[str, Counter[str]] = {}
    trained: set[str] = set()
    for is_train, answers in ((True, train), (False, heldout)):
        for answer in answers:
            if answer is None:
                return None
            folded = answer.casefold()
            spellings.setdefault(folded, Counter())[answer] += 1
            if is_train:
                trained.add(folded)
            if len(spellings) > MAX_LABELS:
                return None
    if len(trained) < 2 or len(train) < MIN_ROWS_PER_LABEL * len(trained):
        return None
    return tuple(sorted(min(counts, key=lambda text: (-counts[text], text)) for counts in spellings.values()))
