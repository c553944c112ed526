"""Figures become what may be said of two models."""

import numpy as np
import pytest

from workers.engine.evaluation.judgement import Rival, figures, judge
from workers.engine.evaluation.statistics.metric import mean, proportion


def hits(share, n=400, name="accuracy", seed=0):
    return proportion(name, np.random.default_rng(seed).random(n) < share, signature="s")


def test_each_figure_has_its_interval_rows_and_signature():
    (found,) = figures([hits(0.8)], seed=0)
    assert found.low < found.value < found.high
    assert (found.n, found.signature, found.interval) == (400, "s", "Wilson")


def test_the_figure_that_decides_comes_first_and_gives_the_verdict():
    judged = judge(
        [hits(0.9, name="other"), hits(0.5)],
        [hits(0.9, name="other"), hits(0.8)],
        decides="accuracy",
        beside=["other"],
        seed=0,
    )
    assert [one.name for one in judged.comparisons] == ["accuracy", "other"]
    assert (judged.verdict, judged.comparisons[1].difference) == ("better", 0.0)


def test_a_baseline_at_least_as_good_is_named_whichever_way_the_figure_counts():
    cheap = Rival("cheap", "a rule", [hits(0.8)])
    assert judge([hits(0.5)], [hits(0.8)], decides="accuracy", rivals=[cheap], seed=0).baseline_better == ("cheap",)
    assert judge([hits(0.5)], [hits(0.9)], decides="accuracy", rivals=[cheap], seed=0).baseline_better == ()
    base, tuned = (mean("loss", [loss] * 9, signature="s", higher_is_better=False) for loss in (1.0, 2.0))
    judged = judge([base], [tuned], decides="loss", base_is_cheap="the probe", seed=0)
    assert judged.baseline_better == ("the probe",)


def test_a_rival_is_not_compared_by_figures_it_cannot_have():
    loss = mean("loss", np.arange(400), signature="s", higher_is_better=False)
    rival = Rival("majority", "a rule", [hits(0.5)], lacks=("loss",))
    judged = judge([hits(0.5), loss], [hits(0.8), loss], decides="accuracy", beside=["loss"], rivals=[rival], seed=0)
    assert [one.name for one in judged.baselines[0].comparisons] == ["accuracy"]
    with pytest.raises(KeyError):
        judge([hits(0.5)], [hits(0.8)], decides="accuracy", beside=["loss"], seed=0)
