"""chrF of generated texts: pure functions, no tensors.

Popović 2017, "chrF++: words helping character n-grams" (aclanthology W17-4770). Figures equal those of sacrebleu 2.6.0,
`CHRF(word_order=2)`: mixed case, no white space among the characters, punctuation parted from words, averages over the
orders that occur.
"""

import string
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from workers.engine.evaluation.statistics.metric import Floats, divide

CHARACTERS = 6
WORDS = 2
_BETA_SQUARED = 4.0
_PUNCTUATION = frozenset(string.punctuation)


def chrf_counts(reference: str, written: str) -> list[int]:
    """3 counts an order, of characters first: n-grams written, in the reference, shared. [3 * (CHARACTERS + WORDS)]."""
    wanted, found = "".join(reference.split()), "".join(written.split())
    counts: list[int] = []
    for order in range(1, CHARACTERS + 1):
        counts += _shared(_grams(wanted, order), _grams(found, order))
    words = _words(reference), _words(written)
    for order in range(1, WORDS + 1):
        counts += _shared(_grams(words[0], order), _grams(words[1], order))
    return counts


def chrf_of_counts(sums: Floats) -> Floats:
    """0 … 100 [...] of summed counts [..., 3 * orders]."""
    written, wanted, shared = (sums[..., start::3] for start in range(3))
    orders = ((written > 0) & (wanted > 0)).sum(-1).astype(np.float64)
    precision = divide(divide(shared, written).sum(-1), orders)
    recall = divide(divide(shared, wanted).sum(-1), orders)
    return 100 * divide((1 + _BETA_SQUARED) * precision * recall, _BETA_SQUARED * precision + recall)


def _grams(units: Sequence[Hashable], order: int) -> Counter[Hashable]:
    return Counter(tuple(units[start : start + order]) for start in range(len(units) - order + 1))


def _shared(wanted: Counter[Hashable], found: Counter[Hashable]) -> tuple[int, int, int]:
    # As sacrebleu: what is written does not count where the reference is too short for the order.
    return found.total() if wanted else 0, wanted.total(), (wanted & found).total()


def _words(text: str) -> list[str]:
    """Words between white space, a punctuation mark at the end or else at the start parted from each."""
    words = []
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            words += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words
