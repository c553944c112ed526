"""An earlier adapter in the base's place, and rows that training has seen scored apart."""

import pytest

from app.contracts.errors import WorkerFailure
from app.contracts.specs import OptimizerSpec
from tests.workers.engine.evaluation.conftest import evaluated, trained
from tests.workers.engine.recipes.conftest import labelled_rows, tagged_rows
from workers.engine.evaluation.run import evaluate


@pytest.mark.parametrize("rows", [labelled_rows(24), tagged_rows(24)], ids=["texts", "entities"])
def test_a_model_against_itself_differs_in_nothing(encoder, tmp_path, rows):
    spec = trained(encoder, tmp_path, rows)
    found = evaluated(encoder, spec.model_copy(update={"against": spec.adapter}))
    assert found.base_is == "ft:tiny"
    assert {one.against for one in found.judgement.comparisons} == {"ft:tiny"}
    assert all(one.difference == 0 for one in found.judgement.comparisons)
    assert found.judgement.verdict not in {"better", "worse"}
    assert found.base.loss == found.tuned.loss


def test_a_trained_model_is_better_than_one_of_a_single_step(encoder, tmp_path):
    rows = labelled_rows(60)
    spec = trained(encoder, tmp_path / "good", rows)
    weak = trained(encoder, tmp_path / "weak", rows, n_epochs=1, optimizer=OptimizerSpec(learning_rate=1e-7))
    against = weak.adapter.model_copy(update={"id": "ft:weak"})
    found = evaluated(encoder, spec.model_copy(update={"against": against}))
    assert found.tuned.loss < found.base.loss
    assert not any("logistic" in name for name in found.judgement.baseline_better)


def test_a_model_of_another_task_cannot_stand_beside_it(encoder, tmp_path):
    spec = trained(encoder, tmp_path / "texts", labelled_rows(24))
    other = trained(encoder, tmp_path / "entities", tagged_rows(24)).adapter
    with pytest.raises(WorkerFailure, match="was not trained for this task") as failure:
        evaluate(encoder, spec.model_copy(update={"against": other}), [].append, lambda: None)
    assert failure.value.error.code == "task_differs"


def test_rows_that_training_has_seen_are_scored_apart(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(24))
    whole = evaluated(encoder, spec)
    found = evaluated(encoder, spec.model_copy(update={"leaked_lines": (1, 2, 7, 999)}))
    assert (found.rows, found.leaked.rows) == (21, 3)
    assert found.tuned.classification.n == 21
    named = {figure.name: figure for figure in found.leaked.tuned}
    assert named["accuracy"].n == 3
    assert named["accuracy"].value == 1.0
    assert not any(name.endswith("_ms") for name in named)
    assert whole.leaked is None


def test_where_training_has_seen_every_row_all_of_them_count_and_are_said_to_be_seen(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(24))
    found = evaluated(encoder, spec.model_copy(update={"leaked_lines": tuple(range(1, 25))}))
    assert (found.rows, found.leaked.rows) == (24, 24)
