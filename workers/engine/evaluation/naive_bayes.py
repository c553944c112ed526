"""A classifier that needs no model: multinomial naive Bayes on words and pairs of words (McCallum and Nigam 1998)."""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\w+")
_SMOOTHING = 0.1


class NaiveBayes:
    """Fitted to texts with one label each; equal data give equal answers."""

    def __init__(self, texts: Sequence[str], labels: Sequence[int]) -> None:
        counts: dict[int, Counter[str]] = defaultdict(Counter)
        for text, label in zip(texts, labels, strict=True):
            counts[label].update(_terms(text))
        known = len(set().union(*counts.values()))
        rows = Counter(labels)
        self._priors = {label: math.log(rows[label] / len(labels)) for label in sorted(rows)}
        # What a term that a label has never seen takes from its score, and what each it has seen gives back.
        self._unseen = {
            label: math.log(_SMOOTHING) - math.log(counts[label].total() + _SMOOTHING * max(1, known)) for label in rows
        }
        self._seen: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for label, found in sorted(counts.items()):
            for term, count in found.items():
                self._seen[term].append((label, math.log(count + _SMOOTHING) - math.log(_SMOOTHING)))

    def label(self, text: str) -> int:
        """The likeliest label; of equally likely ones the first."""
        terms = list(_terms(text))
        scores = {label: prior + len(terms) * self._unseen[label] for label, prior in self._priors.items()}
        for term in terms:
            for label, gain in self._seen.get(term, ()):
                scores[label] += gain
        return max(scores, key=lambda label: (scores[label], -label))


def _terms(text: str) -> Iterator[str]:
    words = _WORD.findall(text.lower())
    yield from words
    yield from (f"{first} {second}" for first, second in itertools.pairwise(words))
