"""Figures of labels, each equal to scikit-learn's to 1e-12."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from workers.engine.evaluation.metrics.classes import (
    class_figures,
    class_metrics,
    confusion,
    labelled,
    labelled_answers,
)

EXACT = {"abs": 1e-12, "rel": 1e-12}


def values(rows):
    return {metric.name: metric.value for metric in class_metrics(rows)}


def draw_single(seed: int, *, unmatched: bool):
    draw = np.random.default_rng(seed)
    width, n = int(draw.integers(2, 9)), int(draw.integers(1, 120))
    truth = draw.integers(0, width, size=n)
    answered = np.where(draw.random(n) < 0.6, truth, draw.integers(0, width, size=n))
    if unmatched:
        answered = np.where(draw.random(n) < 0.15, width, answered)
    return width, truth, answered


def single(width, truth, answered):
    given_labels = [() if label == width else (int(label),) for label in answered]
    return labelled(list(map(str, range(width))), [(int(t),) for t in truth], given_labels, is_multi_label=False)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("unmatched", [False, True])
def test_every_figure_of_single_labels_is_scikit_learns(seed, unmatched):
    width, truth, answered = draw_single(seed, unmatched=unmatched)
    found = values(single(width, truth, answered))
    occurring = sorted((set(truth) | set(answered)) - {width})
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, answered), **EXACT)
    assert found["mcc"] == pytest.approx(reference.matthews_corrcoef(truth, answered), **EXACT)
    for average in ("macro", "micro", "weighted"):
        expected = reference.precision_recall_fscore_support(
            truth, answered, labels=occurring, average=average, zero_division=0
        )
        names = [f"{average}_{score}" for score in ("precision", "recall", "f1")]
        assert [found[name] for name in names] == pytest.approx(list(expected[:3]), **EXACT)


@pytest.mark.parametrize("seed", range(50))
def test_every_figure_of_several_labels_is_scikit_learns(seed):
    draw = np.random.default_rng(seed)
    width, n = int(draw.integers(2, 7)), int(draw.integers(1, 80))
    truth = (draw.random((n, width)) < 0.3).astype(int)
    answered = np.where(draw.random((n, width)) < 0.8, truth, 1 - truth)
    rows = labelled(
        list(map(str, range(width))),
        [np.flatnonzero(row).tolist() for row in truth],
        [np.flatnonzero(row).tolist() for row in answered],
        is_multi_label=True,
    )
    found = values(rows)
    occurring = np.flatnonzero((truth + answered).any(axis=0)).tolist()
    assert "mcc" not in found
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, answered), **EXACT)
    for average in ("macro", "micro", "weighted"):
        expected = reference.precision_recall_fscore_support(
            truth, answered, labels=occurring, average=average, zero_division=0
        )
        names = [f"{average}_{score}" for score in ("precision", "recall", "f1")]
        assert [found[name] for name in names] == pytest.approx(list(expected[:3]), **EXACT)


@pytest.mark.parametrize("seed", range(10))
def test_figures_of_each_label_and_the_confusion_are_scikit_learns(seed):
    width, truth, answered = draw_single(seed, unmatched=True)
    rows = single(width, truth, answered)
    figures = {figure.label: figure for figure in class_figures(rows)}
    expected = reference.precision_recall_fscore_support(
        truth, answered, labels=list(range(width)), zero_division=0, average=None
    )
    for label, (precision, recall, f1, support) in enumerate(zip(*expected, strict=True)):
        if str(label) in figures:
            figure = figures[str(label)]
            found = (figure.precision, figure.recall, figure.f1, figure.support)
            assert found == pytest.approx((precision, recall, f1, support), **EXACT)
        else:
            assert support == 0
    found = confusion(rows)
    labels = [int(label) if label else width for label in found.labels]
    assert found.counts == tuple(map(tuple, reference.confusion_matrix(truth, answered, labels=labels)))


def test_a_resample_has_the_figure_that_its_rows_would_have():
    width, truth, answered = draw_single(3, unmatched=True)
    draw = np.random.default_rng(1)
    for metric in class_metrics(single(width, truth, answered)):
        rows = draw.integers(0, len(truth), size=len(truth))
        weights = np.bincount(rows, minlength=len(truth)).astype(np.float64)
        again = values(single(width, truth[rows], answered[rows]))
        assert metric.resampled(weights[None])[0] == pytest.approx(again[metric.name], **EXACT), metric.name


def test_an_answer_that_is_no_label_is_a_miss_and_the_last_column_of_the_confusion():
    rows = labelled_answers(["Refund", "refund", "login"], ["refund.", "I cannot say", "LOGIN"], ["refund", "login"])
    assert values(rows)["accuracy"] == pytest.approx(2 / 3)
    assert values(rows)["micro_precision"] == 1.0
    found = confusion(rows)
    assert found.labels == ("refund", "login", "")
    assert found.counts == ((1, 0, 1), (0, 1, 0), (0, 0, 0))


def test_a_true_label_that_nobody_named_beforehand_counts_as_one():
    rows = labelled_answers(["refund", "other"], ["refund", "refund"], ["refund"])
    assert rows.labels == ("refund", "other")
    assert [figure.label for figure in class_figures(rows)] == ["refund", "other"]


def test_of_many_labels_the_confusion_shows_the_most_confused_ones():
    truth = [0, 0, 1, 2, 3, 3, 3]
    answered = [0, 0, 1, 2, 2, 2, 3]
    found = confusion(single(4, np.array(truth), np.array(answered)), most=2)
    assert found.labels == ("2", "3")
    assert found.counts == ((1, 0), (2, 1))


def test_figures_over_other_labels_have_another_signature_whatever_their_order():
    def one(labels):
        return class_metrics(labelled(labels, [(0,)], [(0,)], is_multi_label=False))[1].signature

    assert one(["a", "b"]) == one(["b", "a"])
    assert one(["a", "b"]) != one(["a", "c"])
    assert one(["a", "b"]).startswith("average:macro|zero:0|labels:2/")


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="0 rows"):
        labelled(["a"], [], [], is_multi_label=False)
    with pytest.raises(ValueError, match="exactly one label"):
        labelled(["a", "b"], [(0, 1)], [(0,)], is_multi_label=False)
    with pytest.raises(ValueError, match="several labels"):
        labelled(["a", "b"], [(0,)], [(0, 1)], is_multi_label=False)
    with pytest.raises(ValueError, match="no confusion"):
        confusion(labelled(["a", "b"], [(0, 1)], [(0,)], is_multi_label=True))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30), st.permutations(range(4)))
def test_renaming_the_labels_changes_no_figure(pairs, order):
    plain = single(4, np.array([t for t, _ in pairs]), np.array([a for _, a in pairs]))
    renamed = single(4, np.array([order[t] for t, _ in pairs]), np.array([order[a] for _, a in pairs]))
    assert values(plain) == pytest.approx(values(renamed), abs=1e-12)
