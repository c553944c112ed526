"""Similarities equal to the reference packages: rapidfuzz 3.14.6, NLTK 3.10.4, sacrebleu 2.6.0, rouge-score 0.1.2.

The figures were printed by those packages for these texts (BLEU: `sentence_bleu(…, tokenize="none",
use_effective_order=True)` on our words; METEOR: `single_meteor_score`, NLTK's original Porter stemmer, no WordNet).
"""

import pytest

from app.evals.graders.overlap import bleu, fuzzy_match, gleu, lcs_length, rouge_l, rouge_n, rouge_words
from app.evals.graders.porter import stem
from app.evals.graders.similarity import SIMILARITIES

FIGURES = {
    "pairs": [
        ("the cat sat on the mat", "the cat was sitting on the mat"),
        ("Hello, world! How are you?", "hello world how are you"),
        ("a quick brown fox jumps over the lazy dog", "the quick brown dog jumped over the lazy foxes"),
        (
            "It is a guide to action which ensures that the military always obeys",
            "It is a guide to action that ensures that the military will forever heed Party commands",
        ),
        ("billing", "biling"),
        ("the the the the", "the cat the mat"),
        ("cats walked happily by the nations", "the nation walks happy with cat"),
    ],
    "metrics": {
        "fuzzy_match": [
            0.807692307692,
            0.857142857143,
            0.804597701149,
            0.748387096774,
            0.923076923077,
            0.733333333333,
            0.584615384615,
        ],
        "gleu": [0.409090909091, 0.153846153846, 0.333333333333, 0.48275862069, 0.0, 0.2, 0.055555555556],
        "bleu": [0.307394076476, 0.12975849994, 0.233568988864, 0.457883137213, 0.0, 0.189958921413, 0.081166978869],
        "meteor": [0.793442622951, 0.579220779221, 0.833333333333, 0.748872180451, 0.0, 0.25, 0.526041666667],
        "rouge_1": [0.769230769231, 1.0, 0.666666666667, 0.689655172414, 0.0, 0.5, 0.166666666667],
        "rouge_2": [0.545454545455, 1.0, 0.375, 0.592592592593, 0.0, 0.0, 0.0],
        "rouge_3": [0.222222222222, 1.0, 0.142857142857, 0.48, 0.0, 0.0, 0.0],
        "rouge_4": [0.0, 1.0, 0.0, 0.347826086957, 0.0, 0.0, 0.0],
        "rouge_5": [0.0, 1.0, 0.0, 0.190476190476, 0.0, 0.0, 0.0],
        "rouge_l": [0.769230769231, 1.0, 0.555555555556, 0.689655172414, 0.0, 0.5, 0.166666666667],
    },
}


@pytest.mark.parametrize("metric", sorted(FIGURES["metrics"]))
def test_a_figure_equals_the_reference_package_s(metric):
    wanted = FIGURES["metrics"][metric]
    found = [SIMILARITIES[metric](reference, written) for reference, written in FIGURES["pairs"]]
    assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("metric", sorted(SIMILARITIES))
def test_equal_texts_are_as_near_as_can_be_and_texts_without_a_shared_sign_as_far(metric):
    text = "the quick brown fox jumps over the lazy dog"
    # METEOR takes off for the one run that all words are in.
    assert SIMILARITIES[metric](text, text) == pytest.approx(1 - 0.5 / 9**3 if metric == "meteor" else 1.0)
    assert SIMILARITIES[metric](text, "1234 56 789 1011 12") <= (0.2 if metric == "fuzzy_match" else 0.0)


def test_words_of_other_scripts_count():
    assert rouge_words("Müller straße 北京") == ["müller", "straße", "北京"]
    assert rouge_n("привет мир", "привет всем", 1) == 0.5
    assert rouge_l("привет мир", "привет мир") == 1.0


def test_empty_texts_have_a_figure():
    assert fuzzy_match("", "") == 1.0
    assert (bleu("", ""), gleu("a", "")) == (1.0, 0.0)
    assert [SIMILARITIES[name]("", "a") for name in sorted(SIMILARITIES)] == [0.0] * len(SIMILARITIES)


def test_the_longest_common_subsequence_is_that_of_the_textbook():
    assert lcs_length("ABCBDAB", "BDCABA") == 4
    assert lcs_length("", "A") == 0


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("agreed", "agre"), ("plastered", "plaster"), ("motoring", "motor"),
        ("conflated", "conflat"), ("hopping", "hop"), ("falling", "fall"), ("filing", "file"), ("happy", "happi"),
        ("sky", "sky"), ("relational", "relat"), ("vietnamization", "vietnam"), ("triplicate", "triplic"),
        ("electrical", "electr"), ("adoption", "adopt"), ("bowdlerize", "bowdler"), ("rate", "rate"), ("cease", "ceas"),
        ("controll", "control"), ("roll", "roll"), ("generalizations", "gener"), ("oscillators", "oscil"),
    ],
)  # fmt: skip
def test_stems_are_those_of_porter_s_paper(word, stemmed):
    assert stem(word) == stemmed
