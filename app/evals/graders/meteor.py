"""METEOR of a text against one reference: words aligned by form, then by stem. Pure Python."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from app.evals.graders.overlap import words
from app.evals.graders.porter import stem

# Lavie and Agarwal 2007, aclanthology W07-0734, table 2 of the English settings used since.
_ALPHA, _BETA, _GAMMA = 0.9, 3, 0.5
Pairs = list[tuple[int, int]]


def meteor(reference: str, written: str) -> float:
    """Banerjee and Lavie 2005 (aclanthology W05-0909) with the weights of Lavie and Agarwal 2007.

    The stages *exact* and *Porter stem* are there; synonyms, which need WordNet, are not. 0 … just below 1.
    """
    wanted, found = words(reference.lower()), words(written.lower())
    pairs = align(found, wanted)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(found), len(pairs) / len(wanted)
    mean: float = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    fragmentation = _chunks(pairs) / len(pairs)
    return mean * (1 - _GAMMA * fragmentation**_BETA)


def align(found: Sequence[str], wanted: Sequence[str]) -> Pairs:
    """Pairs of places (written, reference), each word in one pair at most: equal words first, then equal stems.

    Greedy from the end, the last free match of each word, as NLTK's implementation does.
    """
    free_found = list(enumerate(found))
    free_wanted = list(enumerate(wanted))
    pairs: Pairs = []
    stages: tuple[Callable[[str], str], ...] = (str, stem)
    for form in stages:
        pairs += _match(free_found, free_wanted, form)
    return sorted(pairs)


def _match(free_found: list[tuple[int, str]], free_wanted: list[tuple[int, str]], form: Callable[[str], str]) -> Pairs:
    """Take matching words out of both lists."""
    places: dict[str, list[int]] = {}
    for index, (_, word) in enumerate(free_wanted):
        places.setdefault(form(word), []).append(index)
    pairs: Pairs = []
    taken_found: set[int] = set()
    taken_wanted: set[int] = set()
    for index in range(len(free_found) - 1, -1, -1):
        candidates = places.get(form(free_found[index][1]))
        if candidates:
            place = candidates.pop()
            pairs.append((free_found[index][0], free_wanted[place][0]))
            taken_found.add(index)
            taken_wanted.add(place)
    free_found[:] = [entry for index, entry in enumerate(free_found) if index not in taken_found]
    free_wanted[:] = [entry for index, entry in enumerate(free_wanted) if index not in taken_wanted]
    return pairs


def _chunks(pairs: Pairs) -> int:
    """Runs of pairs that follow each other in both texts."""
    return 1 + sum((left[0] + 1, left[1] + 1) != right for left, right in pairwise(pairs))
