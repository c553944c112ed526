"""An evaluation that is no small part of a job is announced before the first step."""

import pytest

from workers.supervisor.evaluation_cost import expected_share, warning


@pytest.mark.parametrize(
    "recipe", ["text_classification", "token_classification", "chat", "preference", "summarization"]
)
def test_rows_split_off_by_the_service_are_scored_at_little_cost(recipe):
    share = expected_share(recipe, heldout_rows=100, train_rows=900, epochs=3)
    assert share < 0.2
    assert recipe in {"chat", "summarization"} or share < 0.1


def test_many_held_out_rows_beside_few_to_train_on_are_warned_of_with_the_number_that_is_cheap():
    said = warning("text_classification", heldout_rows=3080, train_rows=693, epochs=3)
    assert "3,080 held-out rows will take about 50 % of the training's time" in said
    assert "594 rows would keep it under 10 %" in said
    assert expected_share("text_classification", heldout_rows=594, train_rows=693, epochs=3) <= 0.1


def test_a_cheap_evaluation_is_not_announced():
    assert warning("text_classification", heldout_rows=3080, train_rows=9003, epochs=3) is None
