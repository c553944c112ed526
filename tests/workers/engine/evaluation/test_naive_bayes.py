"""The classifier that needs no model."""

import pytest

from tests.workers.engine.evaluation.conftest import evaluated, trained
from tests.workers.engine.recipes.conftest import labelled_rows
from workers.engine.evaluation.naive_bayes import NaiveBayes

TEXTS = ["where is my parcel", "my parcel is late", "refund my money", "I want my money back"]
LABELS = [0, 0, 1, 1]


def test_words_that_go_with_a_label_decide_for_it():
    model = NaiveBayes(TEXTS, LABELS)
    assert [model.label(text) for text in ("a late PARCEL!", "money, please", "refund")] == [0, 1, 1]


def test_without_a_known_word_the_more_frequent_label_is_said_and_of_equals_the_first():
    assert NaiveBayes([*TEXTS, "money money"], [*LABELS, 1]).label("xyz") in {0, 1}
    assert NaiveBayes(["a", "b"], [1, 0]).label("") == 0
    assert NaiveBayes(["a", "b", "c"], [1, 1, 0]).label("") == 1


def test_it_is_scikit_learns_multinomial_naive_bayes():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    bayes = pytest.importorskip("sklearn.naive_bayes")
    counter = text.CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+")
    texts = [row.text for row in labelled_rows(60)]
    labels = [("billing", "delivery", "repair").index(row.labels[0]) for row in labelled_rows(60)]
    reference = bayes.MultinomialNB(alpha=0.1).fit(counter.fit_transform(texts), labels)
    asked = ["the parcel and the bill", "repair it", *texts]
    known = [" ".join(word for word in one.split() if word.lower() in counter.vocabulary_) for one in asked]
    ours = NaiveBayes(texts, labels)
    assert [ours.label(one) for one in known] == reference.predict(counter.transform(known)).tolist()


def test_it_stands_among_the_cheap_answers_where_the_training_rows_are_at_hand(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(24))
    names = [one.name for one in evaluated(encoder, spec).judgement.baselines]
    assert names == ["majority"]
    found = evaluated(encoder, spec.model_copy(update={"train_rows": spec.rows})).judgement
    assert [one.name for one in found.baselines] == ["majority", "naive Bayes on words"]
    assert found.baselines[1].figures[0].value == 1.0
    assert "naive Bayes on words" in found.baseline_better
