"""Who makes way for whom: only for a higher claim, not too soon, and only if the GPU then goes to the claimant."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.pool.fairshare import pick
from app.pool.preemption import RunningJob, is_claimants, victims
from app.pool.snapshot import Capacity, Card, Needs, TeamUse, WaitingJob, complete

REST = 300.0


def urgent(job_id="urgent", team="a", **more):
    return WaitingJob(job_id, team, more.pop("priority", 1), more.pop("waited", 10.0), "x", **more)


def running(job_id, team, *, priority=0, ran=1000.0, **more):
    return RunningJob(job_id, team, priority, "x", Needs(), more.pop("card", Card()), ran, **more)


def weigh(waiting, jobs, *, gpus=4, weights=None, free=(), quotas=None):
    """The verdict on a pool whose teams use what `jobs` hold."""
    teams = {
        team: TeamUse(
            gpus=sum(job.team_id == team for job in jobs),
            weight=(weights or {}).get(team, 1.0),
            max_gpus=(quotas or {}).get(team),
        )
        for team in {job.team_id for job in (*waiting, *jobs)}
    }
    snapshot = complete(tuple(waiting), teams, capacity=Capacity(gpus))
    return victims(snapshot, tuple(jobs), free=free, rest_seconds=REST)


def of_b(count=4):
    return [running(f"b{number}", "b", ran=1000.0 + number) for number in range(count)]


def test_a_team_above_its_share_makes_way_for_a_high_priority_of_a_team_below():
    found = weigh([urgent()], of_b())
    assert found.victim.job_id == "b0", "the one that began last"
    assert found.reasons[0] == (
        "A job of high priority of another team had the higher claim and no worker was free for it: that team uses "
        "0 of the 2.0 GPUs of its share, yours 4 of 2.0."
    )


def test_a_normal_priority_makes_nobody_move():
    assert weigh([urgent(priority=0)], of_b()) is None


def test_a_free_worker_that_fits_spares_everybody():
    assert weigh([urgent()], of_b(), free=(Card(),)) is None
    needs_more = urgent(needs=Needs(memory_bytes=10))
    assert weigh([needs_more], of_b(), free=(Card(memory_bytes=5),)) is not None


def test_a_team_within_its_share_is_left_alone_by_others():
    assert (
        weigh([urgent()], [*of_b(2), running("c0", "c"), running("c1", "c")], weights={"b": 2, "c": 2}, gpus=5) is None
    )


def test_the_claimants_team_must_stay_within_its_share():
    own = [running("a0", "a", priority=1), running("a1", "a", priority=1)]
    assert weigh([urgent()], [*own, *of_b(3)], gpus=5) is None
    assert weigh([urgent()], [own[0], *of_b(4)], gpus=5).victim.team_id == "b"


def test_weights_say_whose_share_is_exceeded():
    jobs = [*of_b(2), running("c0", "c"), running("c1", "c")]
    assert weigh([urgent()], jobs, weights={"a": 2.0, "c": 3.0}).victim.team_id == "b"
    assert weigh([urgent()], jobs, weights={"a": 2.0, "b": 3.0}).victim.team_id == "c"


def test_within_a_team_the_lower_priority_makes_way_for_the_high_one():
    jobs = [running("normal", "a"), running("low", "a", priority=-1), running("high", "a", priority=1)]
    found = weigh([urgent()], jobs, gpus=3)
    assert found.victim.job_id == "low"
    assert found.reasons[0] == "Your team's job urgent is of a higher priority and no worker was free for it."
    assert weigh([urgent()], [running("high", "a", priority=1)], gpus=1) is None


def test_nobody_makes_way_before_it_has_run_for_a_while_nor_twice_within_that_time():
    assert weigh([urgent()], [running("b0", "b", ran=299.0)], gpus=2) is None
    assert (
        weigh([urgent()], [running("b0", "b", made_way_seconds_ago=299.0), running("b1", "b", ran=1.0)], gpus=2) is None
    )
    both = [running("b0", "b", made_way_seconds_ago=299.0), running("b1", "b")]
    assert weigh([urgent()], both, gpus=2).victim.job_id == "b1"


def test_one_makes_way_at_a_time():
    assert weigh([urgent()], [replace(of_b()[0], is_asked=True), *of_b()[1:]]) is None


def test_a_gpu_that_the_claimant_does_not_fit_is_not_taken_from_anybody():
    large = urgent(needs=Needs(memory_bytes=80))
    jobs = [running("b0", "b", card=Card(memory_bytes=24)), running("b1", "b", card=Card(memory_bytes=96))]
    assert weigh([large], jobs, gpus=2).victim.job_id == "b1"
    assert weigh([large], [*jobs[:1], running("b2", "b", card=Card(memory_bytes=24))], gpus=2) is None


def test_a_quota_that_is_full_gives_no_claim_on_others():
    assert weigh([urgent()], [running("a0", "a", priority=1), *of_b(7)], gpus=8, quotas={"a": 1}) is None
    own = [running("a0", "a", priority=-1), *of_b(7)]
    assert weigh([urgent()], own, gpus=8, quotas={"a": 1}).victim.job_id == "a0", "a swap stays within it"


def test_nobody_moves_if_another_job_would_get_the_gpu():
    poorer = WaitingJob("poorer", "c", 0, 10.0, "x")
    jobs = [running("a0", "a"), *of_b(7)]
    assert weigh([urgent(), poorer], jobs, gpus=8) is None


jobs_running = st.builds(
    RunningJob,
    job_id=st.uuids().map(str),
    team_id=st.sampled_from("abc"),
    priority=st.integers(-1, 1),
    base_id=st.just("x"),
    needs=st.just(Needs()),
    card=st.builds(Card, resident=st.just(frozenset("x"))),
    ran_seconds=st.sampled_from([1.0, 500.0, 5000.0]),
    made_way_seconds_ago=st.sampled_from([10.0, float("inf")]),
)
jobs_waiting = st.builds(
    WaitingJob,
    job_id=st.uuids().map(str),
    team_id=st.sampled_from("abc"),
    priority=st.integers(-1, 1),
    waited_seconds=st.floats(0, 1e5),
    base_id=st.sampled_from("xy"),
)


@settings(max_examples=300)
@given(
    st.lists(jobs_waiting, max_size=6, unique_by=lambda job: job.job_id),
    st.lists(jobs_running, min_size=1, max_size=6, unique_by=lambda job: job.job_id),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.5, 1.0, 3.0])),
)
def test_whoever_makes_way_the_claimant_gets_the_gpu_and_no_circle_follows(waiting, jobs, weights):
    found = weigh(waiting, jobs, gpus=len(jobs), weights=weights)
    if found is None:
        return
    assert found.claimant.priority == 1
    assert found.victim.ran_seconds >= REST
    teams = {team: TeamUse(gpus=sum(j.team_id == team for j in jobs), weight=weights.get(team, 1.0)) for team in "abc"}
    snapshot = complete(tuple(waiting), teams, capacity=Capacity(len(jobs)))
    assert is_claimants(snapshot, found.claimant, found.victims)
    # After the change the one that made way has no claim to the GPU it gave.
    swapped = [job for job in jobs if job is not found.victim]
    swapped.append(replace(running(found.claimant.job_id, found.claimant.team_id, priority=1)))
    back = WaitingJob(found.victim.job_id, found.victim.team_id, found.victim.priority, 0.0, "x")
    rest = [job for job in waiting if job is not found.claimant]
    again = weigh([*rest, back], swapped, gpus=len(jobs), weights=weights)
    assert again is None or (again.claimant.job_id, again.victim.job_id) != (back.job_id, found.claimant.job_id)


@pytest.mark.parametrize("card", [None, Card(resident=frozenset("x"))])
def test_the_base_left_behind_does_not_bring_the_one_that_made_way_back(card):
    waiting = (WaitingJob("urgent", "a", 1, 10.0, "y"), WaitingJob("victim", "b", 0, 0.0, "x"))
    snapshot = complete(waiting, {"b": TeamUse(gpus=1)}, worker=card)
    assert pick(snapshot) == "urgent"
