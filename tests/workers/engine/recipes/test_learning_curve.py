"""What more rows would bring, foretold before the first step."""

import pytest
import torch

from workers.engine.recipes.learning_curve import fit_power_law, learning_curve, rows_for_a_point


def by(law, *rows):
    return [(count, 1 - law(count)) for count in rows]


@pytest.mark.parametrize("law", [lambda n: 4 * n**-0.5, lambda n: 0.05 + 3 * n**-0.6, lambda n: 0.3 * n**-0.1])
def test_a_power_law_is_found_again_and_foretells_twice_the_rows(law):
    found = fit_power_law(by(law, 100, 200, 400, 800))
    assert found.error(1600) == pytest.approx(law(1600), abs=0.005)


def test_the_rows_for_a_point_are_those_of_the_law():
    points = by(lambda n: 4 * n**-0.5, 100, 200, 400, 800)
    more = rows_for_a_point(points, 800)
    assert 4 * (800 + more) ** -0.5 == pytest.approx(4 * 800**-0.5 - 0.01, abs=1e-4)


def test_a_flat_curve_promises_nothing():
    assert rows_for_a_point([(100, 0.9), (200, 0.9), (400, 0.9), (800, 0.9)], 800) is None
    assert rows_for_a_point([(100, 0.9), (200, 0.85), (400, 0.8)], 400) is None
    assert rows_for_a_point([(100, 1.0), (200, 1.0), (400, 1.0)], 400) is None


def clouds(rows, labels=4, hidden=12, noise=1.6):
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(labels, hidden, generator=generator)
    targets = torch.arange(rows) % labels
    return centres[targets] + noise * torch.randn(rows, hidden, generator=generator), targets


def test_on_noisy_clouds_the_curve_rises_and_half_of_it_foretells_the_rest():
    features, targets = clouds(2000)
    curve = learning_curve(features, targets, 4, poll=lambda: None)
    assert [rows for rows, _ in curve.points] == [200, 400, 800, 1600]
    assert curve.judged_rows == 400
    first, last = curve.points[0][1], curve.points[-1][1]
    assert last > first
    assert 1 - fit_power_law(curve.points[:-1]).error(1600) == pytest.approx(last, abs=0.03)
    assert learning_curve(features, targets, 4, poll=lambda: None) == curve


def test_too_few_rows_have_no_curve():
    features, targets = clouds(99)
    assert learning_curve(features, targets, 4, poll=lambda: None) is None
