"""Who may ride together: the pure rule."""

from dataclasses import replace

import pytest

from app.pool.riding import SMALL_TOKENS, Ride, Rider, Seats, bytes_together, may_join, takes_company

GB = 10**9
SEATS = Seats(number=4, small_seconds=900.0, memory_bytes=24 * GB)
RIDE = Ride("none", shared_bytes=14 * GB, own_bytes=GB // 2, in_turn_bytes=6 * GB, tokens=50_000, seconds=60.0)


def rider(name="new", team="a", *, weights="w", ride=RIDE, **changes):
    return Rider(name, team, weights, ride, **changes)


SEATED = (rider("first"), rider("second"))


def test_small_trainings_of_one_base_ride_together():
    assert may_join(rider(), SEATED, SEATS)


@pytest.mark.parametrize(
    "job",
    [
        rider(weights="other"),
        rider(ride=None),
        rider(ride=replace(RIDE, quantization="nf4")),
        rider(ride=replace(RIDE, seconds=901.0)),
        rider(ride=replace(RIDE, seconds=None, tokens=SMALL_TOKENS + 1)),
        rider(ride=replace(RIDE, own_bytes=4 * GB)),
        rider(ride=replace(RIDE, in_turn_bytes=10 * GB)),
    ],
    ids=["another base", "rides alone", "other bits", "long", "large, of unknown time", "its own memory", "its turn"],
)
def test_others_do_not(job):
    assert not may_join(job, SEATED, SEATS)


def test_the_base_counts_once_and_one_micro_batch_at_a_time():
    assert bytes_together([RIDE, RIDE, RIDE]) == 14 * GB + 6 * GB + 3 * (GB // 2)


def test_a_worker_that_has_not_said_its_memory_is_trusted():
    assert may_join(rider(ride=replace(RIDE, own_bytes=90 * GB)), SEATED, replace(SEATS, memory_bytes=None))


@pytest.mark.parametrize(
    ("mine", "theirs", "together"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_two_teams_share_a_process_where_both_allow_it(mine, theirs, together):
    seated = (rider("first", "b", may_share=theirs), rider("second", "b", may_share=theirs))
    assert may_join(rider(may_share=mine), seated, SEATS) is together


def test_a_team_that_does_not_share_still_rides_with_itself():
    alone = tuple(replace(one, may_share=False) for one in SEATED)
    assert may_join(rider(may_share=False), alone, SEATS)
    assert not may_join(rider(may_share=False), (*alone, rider("third", "b")), SEATS)


@pytest.mark.parametrize(
    ("seated", "seats"),
    [
        ((), SEATS),
        (SEATED, replace(SEATS, number=2)),
        ((*SEATED, rider("third", ride=None)), SEATS),
        ((*SEATED, rider("third", is_asked=True)), SEATS),
    ],
    ids=["nobody is there", "all seats are taken", "one rides alone", "one was asked to leave"],
)
def test_nobody_joins_where_no_company_is_taken(seated, seats):
    assert not takes_company(seated, seats)
    assert not may_join(rider(), seated, seats)


def test_a_large_job_that_runs_alone_takes_no_company():
    assert not may_join(rider(), (rider("first", ride=replace(RIDE, seconds=9_000.0)),), SEATS)
