"""Figures of written texts beside their references and sources."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from workers.engine.evaluation.chrf import CHARACTERS, WORDS, chrf_counts, chrf_of_counts
from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.rouge import rouge, rouge_lsum, tokenise
from workers.engine.evaluation.statistics.metric import Metric, mean, ratio

_ROUGE = {"score": "f1", "case": "lower", "tok": "a-z0-9", "stem": "no"}


def text_metrics(references: Sequence[str], written: Sequence[str]) -> list[Metric]:
    """rouge1, rouge2, rouge_l, rouge_lsum (means of the rows' F1) and chrf_pp (0 … 100, of all rows' counts).

    Raises ValueError for no rows or lists of unequal length.
    """
    pairs = list(zip(references, written, strict=True))
    scores = [(*rouge(*pair), rouge_lsum(*pair)) for pair in pairs]
    names = ("rouge1", "rouge2", "rouge_l", "rouge_lsum")
    metrics = [
        mean(name, [row[place] for row in scores], signature=signature(**_ROUGE, **_sentences(name)))
        for place, name in enumerate(names)
    ]
    counts = np.array([chrf_counts(*pair) for pair in pairs], dtype=np.float64)
    shown = signature(nrefs=1, case="mixed", eff="yes", nc=CHARACTERS, nw=WORDS, space="no")
    return [*metrics, Metric("chrf_pp", shown, counts, chrf_of_counts, unit=100.0)]


def text_descriptions(references: Sequence[str], sources: Sequence[str], written: Sequence[str]) -> list[Metric]:
    """length_ratio and novel_bigrams: what the texts are like, in no direction better.

    `length_ratio` is words written over words of the references, summed over rows; `novel_bigrams` the share of
    the written two-word sequences that do not stand in the source (See et al. 2017, aclanthology P17-1099).
    Raises ValueError for no rows or lists of unequal length.
    """
    words = [[len(text.split()) for text in texts] for texts in (written, references)]
    if len(words[0]) != len(words[1]):
        raise ValueError(f"{len(written)} texts and {len(references)} references")
    novel = [_novel(source, text) for source, text in zip(sources, written, strict=True)]
    return [
        ratio("length_ratio", *words, signature=signature(words="white space")),
        ratio(
            "novel_bigrams",
            [count for count, _ in novel],
            [total for _, total in novel],
            signature=signature(n=2, case="lower", tok="a-z0-9"),
        ),
    ]


def likelihood_metrics(nats: Sequence[float], tokens: Sequence[int], texts: Sequence[str]) -> list[Metric]:
    """Figures `loss` (nats a supervised token) and bits_per_byte of the supervised texts in UTF-8.

    The loss of models with different tokenizers cannot be compared; bits per byte can. Each row weighs as much as its
    tokens or bytes. Raises ValueError for no rows or lists of unequal length.
    """
    if not len(nats) == len(tokens) == len(texts):
        raise ValueError(f"{len(nats)} losses, {len(tokens)} counts of tokens and {len(texts)} texts")
    sizes = [len(text.encode()) for text in texts]
    bits = np.asarray(nats, dtype=np.float64) / np.log(2)
    return [
        ratio("loss", nats, tokens, signature=signature(weights="tokens", unit="nat"), higher_is_better=False),
        ratio("bits_per_byte", bits, sizes, signature=signature(weights="bytes", unit="bit"), higher_is_better=False),
    ]


def _sentences(name: str) -> dict[str, str]:
    return {"sentences": "lines"} if name == "rouge_lsum" else {}


def _novel(source: str, written: str) -> tuple[int, int]:
    """(two-word sequences that the source lacks, all of them)."""
    known = tokenise(source)
    pairs = set(pairwise(known))
    words = tokenise(written)
    found = list(pairwise(words))
    return sum(pair not in pairs for pair in found), len(found)
