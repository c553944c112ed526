"""Entities as tags of words (IOB2) and back: pure rules over numpy arrays."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.contracts.rows import Span

OUTSIDE = 0
_IMPOSSIBLE = -1e9


def tag_count(labels: int) -> int:
    """O, and for each label B and I: tag 1 + 2 k begins label k, tag 2 + 2 k continues it."""
    return 1 + 2 * labels


def to_tags(words: Sequence[tuple[int, int]], spans: Sequence[Span], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """The tag of each word (characters [start, end)); a word that a span touches belongs to it."""
    tags = np.full(len(words), OUTSIDE, dtype=np.int64)
    index = {label: place for place, label in enumerate(labels)}
    for span in spans:
        inside = [place for place, (start, end) in enumerate(words) if start < span.end and end > span.start]
        if inside:
            tags[inside] = 2 + 2 * index[span.label]
            tags[inside[0]] = 1 + 2 * index[span.label]
    return tags


def most_likely(log_probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The likeliest sequence of tags in which I follows B or I of its own label (Viterbi 1967); input [words, tags]."""
    words, tags = log_probabilities.shape
    allowed = _transitions(tags)
    best = log_probabilities[0].astype(np.float64)
    best[2::2] = _IMPOSSIBLE  # nothing can be continued at the start
    back = np.zeros((words, tags), dtype=np.int64)
    for place in range(1, words):
        paths = best[:, None] + allowed
        back[place] = paths.argmax(0)
        best = paths.max(0) + log_probabilities[place]
    result = np.empty(words, dtype=np.int64)
    result[-1] = best.argmax()
    for place in range(words - 1, 0, -1):
        result[place - 1] = back[place, result[place]]
    return result


def to_spans(
    tags: npt.NDArray[np.int64], words: Sequence[tuple[int, int]], labels: Sequence[str]
) -> list[tuple[Span, range]]:
    """Entities with the places of their words; an I that continues nothing begins an entity of its own."""
    found: list[tuple[Span, range]] = []
    first = 0
    while first < len(tags):
        tag = int(tags[first])
        if tag == OUTSIDE:
            first += 1
            continue
        label = (tag - 1) // 2
        end = first + 1
        while end < len(tags) and tags[end] == 2 + 2 * label:
            end += 1
        span = Span(start=words[first][0], end=words[end - 1][1], label=labels[label])
        found.append((span, range(first, end)))
        first = end
    return found


def _transitions(tags: int) -> npt.NDArray[np.float64]:
    """0 where tag j may follow tag i, minus infinity nearly where not: [tags, tags]."""
    allowed = np.zeros((tags, tags))
    for inside in range(2, tags, 2):
        allowed[:, inside] = _IMPOSSIBLE
        allowed[inside - 1, inside] = allowed[inside, inside] = 0.0
    return allowed
