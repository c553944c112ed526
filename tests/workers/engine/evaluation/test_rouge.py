"""ROUGE against constants that the package rouge-score 0.1.2 gave (`RougeScorer(..., use_stemmer=False)`, F1)."""

import random
import time

import pytest

from workers.engine.evaluation.rouge import lcs_length, rouge, text_scores

# reference, written, ROUGE-1, ROUGE-2, ROUGE-L
GOLDEN = (
    ("the cat sat on the mat", "the cat was on the mat", 0.8333333333333334, 0.6, 0.8333333333333334),
    ("the cat sat on the mat", "the cat sat on the mat", 1.0, 1.0, 1.0),
    ("police killed the gunman", "police kill the gunman", 0.75, 0.3333333333333333, 0.75),
    ("police killed the gunman", "the gunman kill police", 0.75, 0.3333333333333333, 0.5),
    ("", "", 0.0, 0.0, 0),
    ("", "something", 0.0, 0.0, 0),
    ("something", "", 0.0, 0.0, 0),
    ("...", "?!", 0.0, 0.0, 0),
    ("one", "one", 1.0, 0.0, 1.0),
    ("one", "two", 0.0, 0.0, 0.0),
    ("a b", "b a", 1.0, 0.0, 0.5),
    ("a a a b", "a a c", 0.5714285714285715, 0.4, 0.5714285714285715),
    ("the the the the", "the", 0.4, 0.0, 0.4),
    (
        "The patient DENIES chest-pain; fever (39.5\xb0C).",
        "Patient denies chest pain, fever 39 5 c",
        0.9411764705882353,
        0.9333333333333333,
        0.9411764705882353,
    ),
    ("Gr\xf6\xdfe und \xdcbermut", "gr\xf6\xdfe und \xfcbermut", 1.0, 1.0, 1.0),
    ("\u0130stanbul is big", "istanbul is big", 0.5714285714285715, 0.4, 0.5714285714285715),
    ("K is the Kelvin sign", "k is the kelvin sign", 1.0, 1.0, 1.0),
    ("na\xefve caf\xe9", "naive cafe", 0.0, 0.0, 0.0),
    ("\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u4eca\u5929\u5929\u6c14\u5f88\u597d", 0.0, 0.0, 0),
    ("\u4eca\u5929 is good", "\u6628\u5929 is good", 1.0, 1.0, 1.0),
    ("don't stop", "dont stop", 0.4, 0.0, 0.4),
    ("don't stop", "don t stop", 1.0, 1.0, 1.0),
    ("under_score joins", "under score joins", 1.0, 1.0, 1.0),
    ("tabs\tand\nnewlines\r\n here", "tabs and newlines here", 1.0, 1.0, 1.0),
    ("  leading and trailing  ", " leading and trailing", 1.0, 1.0, 1.0),
    ("100,000 people", "100000 people", 0.4, 0.0, 0.4),
    ("3.14", "3 14", 1.0, 1.0, 1.0),
    ("x " * 50, "x " * 49 + "y", 0.98, 0.9795918367346939, 0.98),
    ("repeat repeat word word", "word word repeat repeat", 1.0, 0.6666666666666666, 0.5),
    ("a b c d e f g", "g f e d c b a", 1.0, 0.0, 0.14285714285714285),
    ("a b c d e f g", "a x b y c z d", 0.5714285714285714, 0.0, 0.5714285714285714),
    ("no overlap here", "completely different words", 0.0, 0.0, 0.0),
    ("\U0001f600 emoji \U0001f600 text", "emoji text \U0001f600", 1.0, 1.0, 1.0),
    ("e\u0301 combining", "\xe9 combining", 0.6666666666666666, 0.0, 0.6666666666666666),
    ("\ufb01ne ligature", "fine ligature", 0.5, 0.0, 0.5),
    (
        "Reports of a 76-year-old white female, who presents today for hypertension and a med check.",
        "76 year old woman presents for a hypertension med check today.",
        0.7142857142857143,
        0.23076923076923075,
        0.5714285714285714,
    ),
    (
        "She has had no fever or chills, cough, congestion, nausea, vomiting, chest pain, chest pressure.",
        "No fever, chills, cough, nausea, vomiting or chest pain.",
        0.7499999999999999,
        0.36363636363636365,
        0.6666666666666667,
    ),
)
# words of the reference, of the written text, of the vocabulary; figures as above. Drawn one after the other.
GOLDEN_RANDOM = (
    (12, 12, 4, 0.8333333333333334, 0.45454545454545453, 0.6666666666666666),
    (30, 20, 6, 0.56, 0.25, 0.48),
    (80, 60, 30, 0.6857142857142857, 0.08695652173913043, 0.27142857142857135),
    (200, 150, 12, 0.8057142857142856, 0.4885057471264368, 0.38285714285714284),
    (300, 400, 100, 0.7000000000000001, 0.034383954154727794, 0.18571428571428572),
    (65, 64, 3, 0.9612403100775193, 0.8661417322834646, 0.6821705426356589),
)


@pytest.mark.parametrize(("reference", "written", "rouge1", "rouge2", "rouge_l"), GOLDEN)
def test_every_figure_is_that_of_rouge_score(reference, written, rouge1, rouge2, rouge_l):
    assert rouge(reference, written) == pytest.approx((rouge1, rouge2, rouge_l), abs=1e-12)


def test_figures_of_long_texts_are_those_of_rouge_score():
    draw = random.Random(7)  # noqa: S311 not a secret
    for wanted, found, words, *figures in GOLDEN_RANDOM:
        texts = [" ".join(f"w{draw.randrange(words)}" for _ in range(count)) for count in (wanted, found)]
        assert rouge(*texts) == pytest.approx(figures, abs=1e-12)


def test_the_longest_common_subsequence_is_that_of_the_plain_table():
    draw = random.Random(3)  # noqa: S311 not a secret
    for _ in range(200):
        left, right = ([str(draw.randrange(5)) for _ in range(draw.randrange(40))] for _ in range(2))
        table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
        for i, a in enumerate(left):
            for j, b in enumerate(right):
                table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
        assert lcs_length(left, right) == table[-1][-1]


def test_a_thousand_long_pairs_take_seconds():
    draw = random.Random(1)  # noqa: S311 not a secret
    texts = [" ".join(f"w{draw.randrange(300)}" for _ in range(400)) for _ in range(40)]
    started = time.process_time()
    for _ in range(25):
        text_scores(texts, texts[::-1])
    assert time.process_time() - started < 30  # 1.5 s on a fast machine


def test_scores_are_means_over_the_pairs_and_lengths_are_summed():
    scores = text_scores(["a b c d", "one two"], ["a b", "nothing of it at all"])
    assert scores.n == 2
    assert scores.rouge1 == pytest.approx((2 * 2 / 6 + 0) / 2)
    assert scores.length_ratio == pytest.approx(7 / 6)


def test_texts_in_another_script_score_zero_but_have_a_length():
    scores = text_scores(["\u4eca\u5929 \u597d"], ["\u4eca\u5929 \u597d"])
    assert (scores.rouge1, scores.rouge_l, scores.length_ratio) == (0.0, 0.0, 1.0)


def test_no_texts_have_no_scores():
    with pytest.raises(ValueError, match="no texts"):
        text_scores([], [])
