"""The table of states, exhaustively."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.states import TERMINAL, TRANSITIONS, Event, IllegalTransition, Status, after, resumed

EVERY_PAIR = list(itertools.product(Status, Event))


@pytest.mark.parametrize(("status", "event"), EVERY_PAIR)
def test_every_pair_either_leads_somewhere_or_is_refused(status, event):
    if (status, event) in TRANSITIONS:
        assert after(status, event) is TRANSITIONS[status, event]
    else:
        with pytest.raises(IllegalTransition):
            after(status, event)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
@pytest.mark.parametrize("event", Event)
def test_a_job_that_succeeded_or_failed_takes_no_event_at_all(status, event):
    with pytest.raises(IllegalTransition):
        after(status, event)


@given(st.sampled_from(Status), st.lists(st.sampled_from(Event), max_size=20))
def test_no_series_of_events_leads_out_of_a_terminal_status(status, events):
    for event in events:
        try:
            following = after(status, event)
        except IllegalTransition:
            continue
        if status in TERMINAL:
            assert following is status
        status = following


@given(st.lists(st.sampled_from([e for e in Event if e is not Event.CLAIM]), max_size=30))
def test_nothing_runs_that_was_never_claimed(events):
    status = Status.VALIDATING_FILES
    for event in events:
        if event is Event.CONTINUE:  # needs a lease, which only a claim gives
            continue
        try:
            status = after(status, event)
        except IllegalTransition:
            continue
        assert status is not Status.RUNNING


def test_every_status_can_be_reached():
    reached = {Status.VALIDATING_FILES}
    for _ in Status:
        reached |= {TRANSITIONS[pair] for pair in TRANSITIONS if pair[0] in reached}
    assert reached == set(Status)


def test_a_job_paused_before_its_files_were_checked_has_them_checked_on_resume():
    assert resumed(Status.PAUSED, is_validated=False) is Status.VALIDATING_FILES
    assert resumed(Status.PAUSED, is_validated=True) is Status.QUEUED
    assert resumed(Status.RUNNING, is_validated=True) is Status.RUNNING


def test_the_owner_may_repeat_cancel_pause_and_resume():
    assert after(Status.CANCELLED, Event.CANCEL) is Status.CANCELLED
    assert after(Status.PAUSED, Event.PAUSE) is Status.PAUSED
    for status in (Status.VALIDATING_FILES, Status.QUEUED, Status.RUNNING):
        assert after(status, Event.RESUME) is status
