"""When a job should start: GPUs that become free take what `pick` gives them."""

from app.pool.lookahead import Engaged, front_of, start_in_seconds
from app.pool.snapshot import Card, Needs, TeamUse, WaitingJob, complete


def job(job_id, team="a", *, waited=10.0, **more):
    return WaitingJob(job_id, team, 0, waited, "x", **more)


def start(job_id, waiting, engaged, *, teams=None, seconds=60.0):
    snapshot = front_of(complete(tuple(waiting), teams or {}), job_id)
    return start_in_seconds(snapshot, job_id, tuple(engaged), dict.fromkeys((one.job_id for one in waiting), seconds))


def busy(seconds, team="a", card=None):
    return Engaged(card or Card(), seconds, frozenset({team}))


def test_the_next_job_starts_when_the_first_gpu_is_free():
    assert start("one", [job("one")], [busy(30.0), busy(20.0)], teams={"a": TeamUse(gpus=2)}) == 20.0
    assert start("one", [job("one")], [Engaged(Card(), 0.0)]) == 0.0


def test_jobs_before_take_their_time_on_every_gpu():
    waiting = [job(f"{number}", waited=100.0 - number) for number in range(5)]
    engaged = [busy(10.0), busy(20.0)]
    assert [start(f"{n}", waiting, engaged, teams={"a": TeamUse(gpus=2)}) for n in range(5)] == [10, 20, 70, 80, 130]


def test_teams_take_turns_in_the_forecast_too():
    waiting = [*(job(f"a{n}", "a", waited=100.0 - n) for n in range(5)), job("b", "b", waited=1.0)]
    assert start("b", waiting, [busy(10.0), busy(500.0)], teams={"a": TeamUse(gpus=2)}) == 10.0


def test_a_quota_is_waited_for():
    teams = {"a": TeamUse(gpus=1, max_gpus=1)}
    assert start("mine", [job("mine")], [busy(10.0, "b"), busy(90.0, "a")], teams=teams) == 90.0


def test_only_a_worker_that_the_job_fits_counts():
    small, large = Card(memory_bytes=24), Card(memory_bytes=80)
    waiting = [job("large", needs=Needs(memory_bytes=60))]
    assert start("large", waiting, [Engaged(small, 0.0), busy(70.0, card=large)]) == 70.0
    assert start("large", waiting, [Engaged(small, 0.0)]) is None
