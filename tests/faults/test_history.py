"""The judge itself must see each kind of wrong."""

from dataclasses import replace

import pytest

from tests.faults.history import Entry, faults

CLAIM = Entry(0.0, "gpu0", "job", "j", "queued", "running", None, "gpu0@h/1", 0, 1, None)
WRITE = Entry(1.0, "gpu0", "job_metrics", "j", "running", "running", "gpu0@h/1", "gpu0@h/1", 1, 1, None)
END = Entry(2.0, "gpu0", "job", "j", "running", "succeeded", "gpu0@h/1", None, 1, 1, False)
REAPED = Entry(2.0, "control", "job", "j", "running", "queued", "gpu0@h/1", None, 1, 1, True)
SECOND_CLAIM = Entry(3.0, "gpu1", "job", "j", "queued", "running", None, "gpu1@h/1", 1, 2, None)


def test_a_history_in_order_has_no_faults():
    assert faults([CLAIM, WRITE, END]) == []
    late_end = replace(END, writer="gpu1", old_owner="gpu1@h/1", old_fence=2, new_fence=2)
    assert faults([CLAIM, WRITE, REAPED, SECOND_CLAIM, late_end]) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([CLAIM, replace(WRITE, writer="gpu1")], "gpu1 wrote (job_metrics) while the owner was gpu0@h/1"),
        ([CLAIM, REAPED, replace(WRITE, old_owner=None, new_owner=None)], "while the owner was nobody"),
        (
            [CLAIM, REAPED, SECOND_CLAIM, replace(END, old_owner="gpu1@h/1", old_fence=2, new_fence=2)],
            "gpu0 wrote (job) while the owner was gpu1@h/1",
        ),
        ([replace(CLAIM, new_fence=0)], "without a new fence"),
        ([CLAIM, replace(SECOND_CLAIM, old_owner="gpu0@h/1", has_lapsed=False)], "had not run out"),
        ([CLAIM, END, replace(END, old_status="succeeded", new_status="queued")], "was succeeded and became queued"),
        ([CLAIM, END, END], "succeeded 2 times"),
        ([CLAIM, REAPED, SECOND_CLAIM, replace(CLAIM, old_fence=0)], "went back from 2 to 1"),
    ],
)
def test_the_judge_names_each_wrong(wrong, words):
    assert any(words in sentence for sentence in faults(wrong))
