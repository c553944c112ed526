"""How much two texts share, 0 … 1: n-grams (BLEU, GLEU, ROUGE) and the longest common subsequence. Pure Python.

Words of BLEU, GLEU and METEOR are runs of letters and digits, and single signs of punctuation; ROUGE's are runs of
letters and digits in lower case, which for English are those of the package rouge-score 0.1.2 without stemming.
"""

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

_WORD = re.compile(r"\w+|[^\w\s]")
_ROUGE_WORD = re.compile(r"[^\W_]+")
_MAX_ORDER = 4
Token = TypeVar("Token", bound=Hashable)
Grams = Counter[tuple[str, ...]]


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def rouge_words(text: str) -> list[str]:
    return _ROUGE_WORD.findall(text.lower())


def bleu(reference: str, written: str) -> float:
    """Sentence BLEU-4 (Papineni et al. 2002, aclanthology P02-1040) of a single reference.

    Orders without any match are smoothed by halves (Chen and Cherry 2014, aclanthology W14-3346, method 3), and a text
    of fewer than four words is judged by the orders it has: as sacrebleu's `sentence_bleu` does.
    """
    wanted, found = words(reference), words(written)
    if not wanted or not found:
        return float(wanted == found)
    logs: list[float] = []
    smoothing = 1.0
    has_match = False
    for order in range(1, min(_MAX_ORDER, len(found)) + 1):
        total = len(found) - order + 1
        matches = (_grams(wanted, order) & _grams(found, order)).total()
        has_match = has_match or matches > 0
        if matches == 0:
            smoothing *= 2
        logs.append(math.log(matches / total if matches else 1 / (smoothing * total)))
    if not has_match:
        return 0.0
    brevity = 1.0 if len(found) >= len(wanted) else math.exp(1 - len(wanted) / len(found))
    return brevity * math.exp(sum(logs) / len(logs))


def gleu(reference: str, written: str) -> float:
    """Google's sentence BLEU (Wu et al. 2016, arXiv 1609.08144, section 6): the lesser of precision and recall."""
    wanted, found = words(reference), words(written)
    if not wanted or not found:
        return float(wanted == found)
    matches = totals_wanted = totals_found = 0
    for order in range(1, _MAX_ORDER + 1):
        grams = _grams(wanted, order), _grams(found, order)
        matches += (grams[0] & grams[1]).total()
        totals_wanted += grams[0].total()
        totals_found += grams[1].total()
    return matches / max(totals_wanted, totals_found)


def rouge_n(reference: str, written: str, order: int) -> float:
    """F1 of the shared n-grams (Lin 2004, aclanthology W04-1013, section 2)."""
    wanted, found = _grams(rouge_words(reference), order), _grams(rouge_words(written), order)
    return _f1((wanted & found).total(), wanted.total(), found.total())


def rouge_l(reference: str, written: str) -> float:
    """F1 of the longest common subsequence of the words (Lin 2004, section 3)."""
    wanted, found = rouge_words(reference), rouge_words(written)
    return _f1(lcs_length(wanted, found), len(wanted), len(found))


def fuzzy_match(reference: str, written: str) -> float:
    """Indel similarity of the characters, 2·LCS/(n+m): one minus the normalised edit distance without substitutions.

    Equal to `fuzz.ratio / 100` of the package rapidfuzz. 1 for two empty texts.
    """
    total = len(reference) + len(written)
    return 2 * lcs_length(reference, written) / total if total else 1.0


def lcs_length(left: Sequence[Token], right: Sequence[Token]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyrö 2004): a table row is one integer."""
    places: dict[Token, int] = {}
    for place, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << place
    everything = (1 << len(left)) - 1
    row = everything
    for token in right:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & everything
    return len(left) - row.bit_count()


def _grams(tokens: Sequence[str], order: int) -> Grams:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def _f1(shared: int, wanted: int, found: int) -> float:
    return 2 * shared / (wanted + found) if shared else 0.0
