"""Calibration, against scikit-learn and scipy where they have it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import beta
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from workers.engine.evaluation.calibration import (
    area_under_risk_coverage,
    brier_score,
    calibration,
    conformal_threshold,
    coverage_curve,
    expected_calibration_error,
    fit_temperature,
    label_calibration,
    negative_log_likelihood,
    reliability,
    softmax,
    sureness,
    upper_bound,
)


def draw_logits(seed: int, n: int = 600, width: int = 6, temperature: float = 1.0):
    """Logits of a model that is calibrated at `temperature`, and truth drawn from it."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(scale=2.0, size=(n, width))
    chances = softmax(logits)
    truth = (draw.random((n, 1)) > chances.cumsum(1)).sum(1).clip(max=width - 1)
    return logits * temperature, truth


@pytest.mark.parametrize("seed", range(10))
def test_losses_are_scikit_learns(seed):
    logits, truth = draw_logits(seed)
    probabilities = softmax(logits)
    labels = list(range(6))
    assert brier_score(probabilities, truth) == pytest.approx(
        brier_score_loss(truth, probabilities, labels=labels), abs=1e-12
    )
    assert negative_log_likelihood(logits, truth) == pytest.approx(
        log_loss(truth, probabilities, labels=labels), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(10))
def test_reliability_is_scikit_learns_curve_and_the_error_is_its_weighted_gap(seed):
    logits, truth = draw_logits(seed, temperature=2.0)
    sure = sureness(softmax(logits), truth)
    bins = reliability(sure)
    accuracy, confidence = calibration_curve(sure.is_right, sure.confidence, n_bins=15)
    assert [one.accuracy for one in bins] == pytest.approx(accuracy.tolist(), abs=1e-12)
    assert [one.mean_confidence for one in bins] == pytest.approx(confidence.tolist(), abs=1e-12)
    assert sum(one.n for one in bins) == len(truth)
    gaps = np.abs(accuracy - confidence) @ np.array([one.n for one in bins]) / len(truth)
    assert expected_calibration_error(sure) == pytest.approx(gaps, abs=1e-12)


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
def test_the_temperature_is_that_of_a_bounded_search_by_scipy_and_near_the_true_one(factor):
    logits, truth = draw_logits(1, n=4000, temperature=factor)
    expected = minimize_scalar(
        lambda log: negative_log_likelihood(logits, truth, np.exp(log)), bounds=(-3, 3), method="bounded"
    )
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(np.exp(expected.x), rel=2e-3)  # the pull to 1 is hardly felt
    assert found == pytest.approx(factor, rel=0.1)


def test_an_unsure_and_an_overconfident_model_are_mended_on_other_rows():
    for factor in (0.4, 2.5):
        chosen = fit_temperature(*draw_logits(2, n=2000, temperature=factor))
        found = calibration(*draw_logits(3, n=2000, temperature=factor), temperature=chosen, fitted_on="validation")
        assert found.ece_at_temperature < 0.05 < found.ece
        assert found.brier_at_temperature < found.brier


def test_the_temperature_stays_within_bounds_where_the_rows_would_have_it_flee():
    logits = np.zeros((400, 3))
    logits[:, 0] = 5.0
    assert fit_temperature(logits, np.ones(400, dtype=int)) == pytest.approx(20.0, rel=1e-3)


def test_few_rows_that_are_all_right_make_no_answer_certain():
    logits = np.zeros((10, 3))
    logits[:, 0] = 3.0
    found = fit_temperature(logits, np.zeros(10, dtype=int))
    assert 0.5 < found < 1.0
    assert softmax(logits, found).max() < 0.999


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.05, 20))
def test_a_temperature_changes_no_answer(seed, temperature):
    logits, _ = draw_logits(seed, n=20)
    assert (softmax(logits).argmax(1) == softmax(logits, temperature).argmax(1)).all()
    assert softmax(logits, temperature).sum(1) == pytest.approx(np.ones(20))


def test_huge_logits_overflow_nowhere():
    assert softmax(np.array([[1e4, -1e4]])).tolist() == [[1.0, 0.0]]
    assert negative_log_likelihood(np.array([[1e4, -1e4]]), np.array([1])) == pytest.approx(2e4)


def test_answering_only_the_surest_rows_raises_accuracy():
    sure = sureness(*_probabilities(draw_logits(5, n=2000)))
    curve = coverage_curve(sure)
    assert curve[-1] == (1.0, pytest.approx(sure.is_right.mean()))
    assert dict(curve)[0.8] > curve[-1][1] + 0.02
    assert len(coverage_curve(sureness(*_probabilities(draw_logits(5, n=3))))) == 3


def test_the_area_under_risk_and_coverage_is_the_mean_risk_of_all_prefixes():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    sure = sureness(probabilities, np.array([0, 1, 0, 1]))
    assert area_under_risk_coverage(sure) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_answer_sets_hold_the_truth_for_nine_rows_in_ten():
    threshold = conformal_threshold(*_probabilities(draw_logits(7, n=1000)))
    probabilities, truth = _probabilities(draw_logits(8, n=4000))
    held = (probabilities[np.arange(4000), truth] >= threshold).mean()
    assert 0.87 <= held <= 0.93


def test_the_conformal_promise_holds_over_many_draws_of_few_rows():
    held = []
    for seed in range(300):
        probabilities, truth = _probabilities(draw_logits(seed, n=39))
        threshold = conformal_threshold(probabilities[:19], truth[:19])
        held += (probabilities[np.arange(19, 39), truth[19:]] >= threshold).tolist()
    assert 0.885 <= np.mean(held) <= 0.925  # (19 + 1) * 0.9 is whole: exactly 90 % are expected


def test_too_few_rows_for_the_promise_put_every_label_into_the_set():
    assert conformal_threshold(*_probabilities(draw_logits(1, n=8))) == 0.0


@pytest.mark.parametrize(("wrong", "rows"), [(0, 10), (3, 50), (49, 50), (20, 500), (5, 5)])
def test_the_bound_on_a_risk_is_clopper_and_pearsons(wrong, rows):
    expected = 1.0 if wrong == rows else beta.ppf(1 - 0.01, wrong + 1, rows - wrong)
    assert upper_bound(wrong, rows, 0.01) == pytest.approx(expected, abs=1e-6)


def test_the_most_rows_answered_at_a_wanted_risk_keep_it_on_other_rows_nineteen_times_in_twenty():
    broken, answered = 0, []
    for seed in range(200):
        logits, truth = draw_logits(seed, n=1300, width=3)
        stored = label_calibration(logits[:300], truth[:300])
        shown = [point for point in stored.abstention if point.risk_bound <= 0.2]
        if shown:
            best = max(shown, key=lambda point: point.answered)
            inside = softmax(logits[300:], stored.temperature).max(1) >= best.min_confidence
            # The true risk, from the probabilities the truth was drawn by.
            broken += (1 - softmax(logits[300:]).max(1)[inside]).mean() > 0.2
            answered.append(best.answered)
    assert len(answered) > 150
    assert np.mean(answered) > 0.3
    assert broken <= 0.05 * 200


def test_what_goes_with_an_adapter_promises_what_other_rows_keep():
    logits, truth = draw_logits(11, n=3000, temperature=2.0)
    stored = label_calibration(logits[:1000], truth[:1000])
    found = calibration(
        logits[1000:],
        truth[1000:],
        temperature=stored.temperature,
        fitted_on="other rows",
        threshold=stored.conformal_threshold,
    )
    assert stored.rows == 1000
    assert stored.temperature == pytest.approx(2.0, rel=0.1)
    assert found.ece_at_temperature < 0.05 < found.ece
    assert 0.87 <= found.conformal_coverage <= 0.93
    assert 1 < found.conformal_set_size < 6
    assert [point.answered for point in stored.abstention] == pytest.approx([step / 20 for step in range(1, 21)])
    assert all(point.risk <= point.risk_bound for point in stored.abstention)


def test_rows_of_one_confidence_are_answered_together_or_not_at_all():
    logits, truth = np.tile([1.0, 0.0], (30, 1)), np.array([0, 0, 1] * 10)
    (point,) = label_calibration(logits, truth).abstention
    assert (point.answered, point.risk) == (1.0, pytest.approx(1 / 3))


def test_truth_that_does_not_fit_is_refused():
    for truth in (np.array([0]), np.array([0, 6]), np.array([-1, 0])):
        with pytest.raises(ValueError, match="do not fit truth"):
            sureness(np.full((2, 6), 1 / 6), truth)


def _probabilities(drawn):
    logits, truth = drawn
    return softmax(logits), truth
