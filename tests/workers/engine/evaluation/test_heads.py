import pytest

from app.contracts.errors import WorkerFailure
from app.contracts.reports import Stopped
from app.contracts.rows import LabelledText
from tests.workers.engine.evaluation.conftest import evaluated, trained
from tests.workers.engine.recipes.conftest import labelled_rows, tagged_rows
from workers.engine.evaluation.run import evaluate


def test_a_classifier_stands_beside_a_probe_on_the_frozen_base(encoder, tmp_path):
    found = evaluated(encoder, trained(encoder, tmp_path, labelled_rows(24)))
    assert "logistic regression" in found.base_is
    assert found.rows == found.tuned.classification.n == 24
    assert found.tuned.classification.accuracy == 1.0
    assert found.tuned.loss < found.base.loss
    assert found.tuned.latency.time_to_first_token_ms_p50 is None
    assert {sample.tuned for sample in found.samples} <= {"billing", "delivery", "repair"}


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
