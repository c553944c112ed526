"""Figures of texts against rouge-score and sacrebleu, to 1e-9."""

import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from workers.engine.evaluation.metrics.texts import likelihood_metrics, text_descriptions, text_metrics

WORDS = (
    "the",
    "cat",
    "sat,",
    "on",
    "a",
    "(mat)",
    "don't",
    "Gr\xf6\xdfe",
    "39.5",
    "x",
    "\u4eca\u5929",
    "...",
    "A",
    "end.",
)
NEAR = {"abs": 1e-9}


def draw_texts(seed: int, count: int = 12) -> tuple[list[str], list[str]]:
    """Texts of several lines, some of them empty, that share words and runs of words."""
    draw = random.Random(seed)  # noqa: S311 not a secret

    def text() -> str:
        lines = [" ".join(draw.choices(WORDS, k=draw.randrange(12))) for _ in range(draw.randrange(5))]
        return "\n".join(lines)

    references = [text() for _ in range(count)]
    written = [text() if draw.random() < 0.5 else r.replace("cat", "dog").replace("\n", " \n\n", 1) for r in references]
    return references, written


@pytest.mark.parametrize("seed", range(30))
def test_every_rouge_is_the_mean_that_rouge_score_gives(seed):
    references, written = draw_texts(seed)
    ours = {metric.name: metric.value for metric in text_metrics(references, written)}
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    expected = [scorer.score(reference, text) for reference, text in zip(references, written, strict=True)]
    for name, theirs in {
        "rouge1": "rouge1",
        "rouge2": "rouge2",
        "rouge_l": "rougeL",
        "rouge_lsum": "rougeLsum",
    }.items():
        assert ours[name] == pytest.approx(np.mean([score[theirs].fmeasure for score in expected]), **NEAR), name


@pytest.mark.parametrize("seed", range(30))
def test_chrf_is_that_of_sacrebleu(seed):
    references, written = draw_texts(seed)
    ours = {metric.name: metric for metric in text_metrics(references, written)}["chrf_pp"]
    reference = CHRF(word_order=2)
    assert ours.value == pytest.approx(reference.corpus_score(written, [references]).score, **NEAR)
    assert ours.signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|")
    assert str(reference.get_signature()).startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|")


def test_chrf_of_one_row_and_of_a_resample_is_that_of_sacrebleu():
    references, written = draw_texts(99)
    metric = {m.name: m for m in text_metrics(references, written)}["chrf_pp"]
    for place in range(len(references)):
        expected = CHRF(word_order=2).sentence_score(written[place], [references[place]]).score
        assert metric.of_sums(metric.parts[place]) == pytest.approx(expected, **NEAR)
    rows = [0, 0, 3, 3, 3, 7]
    expected = CHRF(word_order=2).corpus_score([written[r] for r in rows], [[references[r] for r in rows]]).score
    weights = np.bincount(rows, minlength=len(references)).astype(np.float64)
    assert metric.resampled(weights[None])[0] == pytest.approx(expected, **NEAR)


def test_texts_that_are_their_references_have_all_of_each_score():
    texts = ["one two three\nfour five", "a longer line of six words"]
    assert {m.name: m.value for m in text_metrics(texts, texts)} == pytest.approx(
        {"rouge1": 1, "rouge2": 1, "rouge_l": 1, "rouge_lsum": 1, "chrf_pp": 100}
    )


def test_lengths_are_summed_and_novel_bigrams_are_those_the_source_lacks():
    described = text_descriptions(["a b", "c"], ["the cat sat", "on a mat"], ["The cat ran", "on a mat"])
    found = {metric.name: metric.value for metric in described}
    assert found["length_ratio"] == pytest.approx(6 / 3)
    assert found["novel_bigrams"] == pytest.approx(1 / 4)


def test_loss_weighs_rows_by_their_tokens_and_bits_by_their_bytes():
    loss, bits = likelihood_metrics([6.0, 1.0], [3, 1], ["caf\xe9", "x" * 5])
    assert loss.value == pytest.approx(7 / 4)
    assert bits.value == pytest.approx(7 / np.log(2) / 10)
    assert not loss.higher_is_better
    assert not bits.higher_is_better


def test_lists_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2 texts and 1 references"):
        text_descriptions(["a"], ["b", "c"], ["d", "e"])
    with pytest.raises(ValueError, match="shorter"):
        text_metrics(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="1 counts of tokens"):
        likelihood_metrics([1.0, 2.0], [1], ["a", "b"])
