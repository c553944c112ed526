"""The result is chosen on rows that are scored for nothing else."""

import pytest

from app.contracts.rows import LabelledText, Span, TaggedText
from tests.invariants.recipe_runs import CHAT, TEXT, TOKENS, make_spec, run
from tests.workers.engine.conftest import chat_row

EASY, CONTRARY = "easy", "contrary"
HELD_OUT = {
    CHAT.name: {
        EASY: [chat_row(1, "ticket 1: ", "delivery"), chat_row(2, "ticket 2: my parcel is late. ", "repair")],
        CONTRARY: [chat_row(1, "ticket 1: ", "something else")],
    },
    TEXT.name: {
        EASY: [LabelledText(line=1, text="ticket 1: delivery", labels=("delivery",))],
        CONTRARY: [LabelledText(line=1, text="ticket 1: delivery", labels=("billing",))],
    },
    TOKENS.name: {
        EASY: [TaggedText(line=1, text="ticket 2: repair", spans=(Span(start=10, end=16, label="QUEUE"),))],
        CONTRARY: [TaggedText(line=1, text="ticket 1: repair", spans=(Span(start=0, end=6, label="QUEUE"),))],
    },
}
pytestmark = pytest.mark.parametrize("job", [CHAT, TEXT, TOKENS], ids=lambda job: job.name)


def trained(job, resident, folder, *, selection, held_out, **changes):
    spec = make_spec(
        job,
        resident,
        folder,
        valid=HELD_OUT[job.name][held_out],
        selection=HELD_OUT[job.name][selection],
        n_epochs=5,
        valid_every_steps=1,
        optimizer={"learning_rate": 0.05},
        **changes,
    )
    return run(resident, spec)


def test_what_is_held_out_has_no_part_in_the_choice_of_the_result_nor_in_when_the_run_ends(job, resident, tmp_path):
    """Held-out rows that get worse from the first step on change neither the step nor a bit of the adapter."""
    rule = {"patience": 3}
    runs = [
        trained(job, resident, tmp_path / name, selection=EASY, held_out=name, early_stopping=rule)
        for name in (EASY, CONTRARY)
    ]
    assert runs[0].finished.model_dump(exclude={"adapter_path", "train_seconds"}) == runs[1].finished.model_dump(
        exclude={"adapter_path", "train_seconds"}
    )
    assert [m.selection_score for m in runs[0].metrics] == [m.selection_score for m in runs[1].metrics]
    assert runs[0].metrics[-1].full_valid_loss != runs[1].metrics[-1].full_valid_loss


def test_the_rows_that_choose_do_choose(job, resident, tmp_path):
    """Or the test above would pass for a run that always ends in its last step."""
    found = trained(job, resident, tmp_path, selection=CONTRARY, held_out=EASY)
    scores = {m.step: m.selection_score for m in found.metrics if m.selection_score is not None}
    assert len(scores) == 5
    assert found.finished.step == min(step for step, score in scores.items() if score == max(scores.values()))
    assert found.finished.step < found.finished.steps_done
