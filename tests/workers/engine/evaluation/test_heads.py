from pathlib import Path

import pytest

from app.contracts.costs import Costs
from app.contracts.errors import WorkerFailure
from app.contracts.reports import Stopped
from app.contracts.requirements import judge_sheet, parse_sheet
from app.contracts.rows import LabelledText
from app.reports.words import summary
from tests.workers.engine.evaluation.conftest import evaluated, trained
from tests.workers.engine.recipes.conftest import labelled_rows, tagged_rows
from workers.engine.evaluation.run import evaluate
from workers.engine.inference.adapters import load_verified_adapter
from workers.engine.inference.predict import predict
from workers.engine.recipes.rows import read_rows
from workers.engine.training.adapter_files import read_task


def predicted(encoder, spec):
    """(row, what `/predict` says of it) of all rows."""
    rows = read_rows(Path(spec.rows), spec.recipe)
    found = predict(encoder, load_verified_adapter(encoder, spec.adapter), [row.text for row in rows])
    return list(zip(rows, found.predictions, strict=True))


def test_a_classifier_stands_beside_a_probe_on_the_frozen_base(encoder, tmp_path):
    found = evaluated(encoder, trained(encoder, tmp_path, labelled_rows(24)))
    assert "logistic regression" in found.base_is
    assert found.rows == found.tuned.classification.n == 24
    assert found.tuned.classification.accuracy == 1.0
    assert found.tuned.loss < found.base.loss
    assert found.tuned.latency.time_to_first_token_ms_p50 is None
    assert {sample.tuned for sample in found.samples} <= {"billing", "delivery", "repair"}


def test_an_evaluation_judges_the_calibration_that_the_adapter_carries(encoder, tmp_path):
    (tmp_path / "selection.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in labelled_rows(30)))
    spec = trained(encoder, tmp_path, labelled_rows(24), selection_rows=str(tmp_path / "selection.jsonl"))
    stored = read_task(Path(spec.adapter.path)).calibration
    found = evaluated(encoder, spec).tuned.calibration
    assert found.temperature == stored.temperature != 1.0
    assert found.fitted_on == "30 rows that chose the checkpoint, not held out"
    scores = [{one.label: one.score for one in said.scores}[row.labels[0]] for row, said in predicted(encoder, spec)]
    assert found.conformal_coverage == sum(score >= stored.conformal_threshold for score in scores) / 24


def test_an_adapter_that_carries_no_calibration_is_judged_as_trained(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(24))
    found = evaluated(encoder, spec.model_copy(update={"calibration_rows": spec.rows}))
    tuned, base = found.tuned.calibration, found.base.calibration
    assert (tuned.temperature, tuned.fitted_on) == (1.0, "none is stored with the adapter: as trained")
    assert (tuned.ece_at_temperature, tuned.conformal_coverage) == (tuned.ece, None)
    assert (base.temperature != 1.0, base.conformal_coverage) == (True, None)


def test_costs_become_a_figure_of_both_models_with_its_paired_comparison(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(24))
    costs = {"pairs": [{"expected": "repair", "predicted": "billing", "cost": 1000}], "abstain": 3}
    found = evaluated(encoder, spec.model_copy(update={"costs": Costs.model_validate(costs)}))
    for scores in (found.base, found.tuned):
        figure = next(one for one in scores.figures if one.name == "cost_per_1000_decisions")
        assert figure.low <= figure.value <= figure.high
        assert (figure.n, figure.higher_is_better) == (24, False)
        assert 0 <= scores.decisions.abstained <= scores.decisions.changed <= 1
    assert [one.name for one in found.judgement.comparisons] == ["macro_f1", "accuracy", "cost_per_1000_decisions"]
    assert "By your costs 1,000 of its decisions cost" in summary(found)
    (sheet,) = judge_sheet(parse_sheet("cost_per_1000_decisions <= 1e9"), found.tuned.figures)
    assert sheet.outcome == "pass"


@pytest.mark.parametrize("rows", [labelled_rows, tagged_rows])
def test_costs_of_another_task_are_refused(encoder, tmp_path, rows):
    spec = trained(encoder, tmp_path, rows(12))
    costs = Costs.model_validate({"pairs": [{"expected": "refund", "predicted": "billing", "cost": 2}]})
    with pytest.raises(WorkerFailure) as failure:
        evaluated(encoder, spec.model_copy(update={"costs": costs}))
    assert (failure.value.error.code, failure.value.error.param) == ("costs_misfit", "costs")


def test_the_figures_do_not_depend_on_the_batch_size(encoder, tmp_path):
    spec = trained(encoder, tmp_path, tagged_rows(12))
    figures = set()
    for budget in (1, 60, 10_000):
        scores = evaluated(encoder, spec.model_copy(update={"token_budget": budget})).tuned
        figures.add((round(scores.loss, 5), scores.spans.f1, scores.supervised_tokens))
    assert len(figures) == 1


def test_entities_are_scored_strictly_and_by_label(encoder, tmp_path):
    scores = evaluated(encoder, trained(encoder, tmp_path, tagged_rows(24))).tuned.spans
    assert (scores.expected, scores.correct) == (36, 36)
    assert scores.f1_by_label == {"city": 1.0, "person": 1.0}


def test_rows_of_an_unknown_label_are_left_out_with_their_reason(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(12))
    rows = (*labelled_rows(3), LabelledText(line=9, text="hello", labels=("greeting",)))
    (tmp_path / "other.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    found = evaluated(encoder, spec.model_copy(update={"rows": str(tmp_path / "other.jsonl")}))
    assert found.rows == 3
    assert found.dropped[0][0] == 9


def test_an_adapter_of_other_labels_is_refused(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(12))
    with pytest.raises(WorkerFailure) as failure:
        evaluated(encoder, spec.model_copy(update={"labels": ("billing", "delivery", "other", "repair")}))
    assert failure.value.error.code == "task_differs"


def test_an_evaluation_stops_when_asked(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(12))
    reports = []
    evaluate(encoder, spec, reports.append, lambda: "cancel" if reports else None)
    assert isinstance(reports[-1], Stopped)
