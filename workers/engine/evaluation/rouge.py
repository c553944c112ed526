"""ROUGE of generated texts: pure functions, no tensors.

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries" (aclanthology W04-1013): ROUGE-N (section 2) is the
overlap of n-grams with their multiplicities, ROUGE-L (section 3) the longest common subsequence of the whole texts,
ROUGE-Lsum (section 3.2) the union of those of the sentences, which are lines.
Figures equal those of the package rouge-score 0.1.2 without stemming: F1, tokens of a-z and 0-9 in lower case, so a
text in another script has no tokens and scores 0.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from app.contracts.reports import TextScores

_NO_TOKEN = re.compile(r"[^a-z0-9]+")


class Rouge(NamedTuple):
    """F1 of one pair, each 0 … 1."""

    rouge1: float
    rouge2: float
    rouge_l: float


def tokenise(text: str) -> list[str]:
    return _NO_TOKEN.sub(" ", text.lower()).split()


def rouge(reference: str, written: str) -> Rouge:
    """How much of the reference stands in the written text, and of that in the reference."""
    wanted, found = tokenise(reference), tokenise(written)
    return Rouge(_ngram_f1(wanted, found, 1), _ngram_f1(wanted, found, 2), _lcs_f1(wanted, found))


def rouge_lsum(reference: str, written: str) -> float:
    """F1 of the tokens that lines have in common, each as often as it occurs."""
    wanted, found = ([tokenise(line) for line in text.split("\n") if line] for text in (reference, written))
    left = [Counter(token for line in lines for token in line) for lines in (wanted, found)]
    totals = [count.total() for count in left]
    shared = 0
    for line in wanted:
        for place in sorted({place for other in found for place in _lcs_places(line, other)}):
            token = line[place]
            if left[0][token] and left[1][token]:
                left[0][token] -= 1
                left[1][token] -= 1
                shared += 1
    return _f1(shared, *totals)


def text_scores(references: Sequence[str], written: Sequence[str]) -> TextScores:
    """Means over the pairs. Raises ValueError for no rows or lists of unequal length."""
    if not references:
        raise ValueError("scores of no texts")
    pairs = [rouge(wanted, found) for wanted, found in zip(references, written, strict=True)]
    # Words between white space: they exist in every script.
    words = [sum(len(text.split()) for text in texts) for texts in (written, references)]
    return TextScores(
        rouge1=sum(pair.rouge1 for pair in pairs) / len(pairs),
        rouge2=sum(pair.rouge2 for pair in pairs) / len(pairs),
        rouge_l=sum(pair.rouge_l for pair in pairs) / len(pairs),
        length_ratio=words[0] / max(1, words[1]),
        n=len(pairs),
    )


def lcs_length(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Bit-parallel over `left` (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"): a row of the usual table is
    one integer, whose zeros are the places where the length grows.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << place
    everything = (1 << len(left)) - 1
    row = everything
    for token in right:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & everything
    return len(left) - row.bit_count()


def _lcs_places(left: Sequence[str], right: Sequence[str]) -> list[int]:
    """Places in `left` of one longest common subsequence: of several, the one rouge-score finds."""
    lengths = [[0] * (len(right) + 1)]
    for token in left:
        above, row = lengths[-1], [0]
        for place, other in enumerate(right):
            row.append(above[place] + 1 if token == other else max(above[place + 1], row[place]))
        lengths.append(row)
    i, j = len(left), len(right)
    places = []
    while i and j:
        if left[i - 1] == right[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif lengths[i][j - 1] > lengths[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places


def _ngram_f1(wanted: Sequence[str], found: Sequence[str], n: int) -> float:
    grams = [Counter(zip(*(tokens[start:] for start in range(n)), strict=False)) for tokens in (wanted, found)]
    return _f1((grams[0] & grams[1]).total(), grams[0].total(), grams[1].total())


def _lcs_f1(wanted: Sequence[str], found: Sequence[str]) -> float:
    return _f1(lcs_length(wanted, found), len(wanted), len(found))


def _f1(shared: int, wanted: int, found: int) -> float:
    """Harmonic mean of recall shared/wanted and precision shared/found; 0 where nothing is shared."""
    return 2 * shared / (wanted + found) if shared else 0.0
