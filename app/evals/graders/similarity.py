"""Which similarity a text_similarity grader means."""

from collections.abc import Callable

from app.evals.graders.meteor import meteor
from app.evals.graders.overlap import bleu, fuzzy_match, gleu, rouge_l, rouge_n

MAX_CHARACTERS = 100_000


def _rouge(order: int) -> Callable[[str, str], float]:
    return lambda reference, written: rouge_n(reference, written, order)


# Each takes the reference and what was written. `cosine` is not among them: it needs a model of embeddings.
SIMILARITIES: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{order}": _rouge(order) for order in range(1, 6)},
    "rouge_l": rouge_l,
}
