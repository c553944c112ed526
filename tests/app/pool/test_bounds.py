"""What bounds a pick: quotas, what fits a worker, and how far a base at hand may jump the queue."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.pool.fairshare import MAX_OVERTAKES, choose, explain, ordered, pick, position
from app.pool.snapshot import Capacity, Card, Needs, Snapshot, TeamUse, WaitingJob, complete, fits
from tests.app.pool.trimming import trimmed

GB = 10**9
needs = st.builds(
    Needs,
    memory_bytes=st.one_of(st.none(), st.sampled_from([8 * GB, 30 * GB, 100 * GB])),
    compute_capability=st.one_of(st.none(), st.sampled_from([70, 80])),
)
cards = st.builds(
    Card,
    memory_bytes=st.one_of(st.none(), st.sampled_from([16 * GB, 80 * GB])),
    compute_capability=st.one_of(st.none(), st.sampled_from([75, 90])),
    bases=st.one_of(st.none(), st.frozensets(st.sampled_from("xyz"))),
    resident=st.frozensets(st.sampled_from("xyz"), max_size=2),
)
jobs = st.builds(
    WaitingJob,
    job_id=st.uuids().map(str),
    team_id=st.sampled_from("abcd"),
    priority=st.integers(-1, 1),
    waited_seconds=st.floats(0, 2e4),
    base_id=st.sampled_from("xyz"),
    needs=needs,
    overtaken=st.integers(0, MAX_OVERTAKES),
)
uses = st.builds(
    TeamUse,
    gpus=st.integers(0, 5),
    weight=st.sampled_from([0.5, 1.0, 2.0]),
    max_gpus=st.one_of(st.none(), st.integers(0, 6)),
    served_seconds_ago=st.one_of(st.just(float("inf")), st.floats(0, 1e6)),
)
snapshots = st.builds(
    complete,
    waiting=st.lists(jobs, max_size=30, unique_by=lambda job: job.job_id).map(tuple),
    teams=st.dictionaries(st.sampled_from("abcd"), uses),
    capacity=st.just(Capacity(10, 500 * GB)),
    worker=st.one_of(st.none(), cards),
    cards=st.lists(cards, max_size=3).map(tuple),
)


def job(job_id, team="a", **more):
    return WaitingJob(job_id, team, more.pop("priority", 0), more.pop("waited", 10.0), **more)


@settings(max_examples=500)
@given(snapshots)
def test_a_trimmed_snapshot_gives_the_same_choice_as_the_full_one(snapshot):
    assert choose(trimmed(snapshot)) == choose(snapshot)


@given(snapshots)
def test_what_is_picked_fits_the_worker_and_the_quota_of_its_team(snapshot):
    picked = next((one for one in snapshot.waiting if one.job_id == pick(snapshot)), None)
    could = [one for one in snapshot.waiting if fits(one, snapshot.worker) and snapshot.use(one.team_id).has_room()]
    assert (picked in could) if could else picked is None


@settings(max_examples=300)
@given(snapshots)
def test_a_base_at_hand_overtakes_nobody_of_high_priority_nor_anyone_too_often(snapshot):
    choice = choose(snapshot)
    if choice is None or not choice.overtaken:
        return
    assert choice.job.base_id in snapshot.worker.resident
    assert all(one.priority < 1 and one.overtaken < MAX_OVERTAKES for one in choice.overtaken)


def test_a_worker_takes_a_job_of_the_base_it_holds_before_an_older_one_of_another():
    waiting = (job("old", waited=100, base_id="x"), job("held", base_id="y"))
    held = Snapshot(waiting, {}, worker=Card(resident=frozenset("y")))
    assert (pick(held), pick(Snapshot(waiting, {}))) == ("held", "old")


def test_after_four_overtakes_it_is_the_old_jobs_turn():
    waiting = (job("old", waited=100, base_id="x", overtaken=MAX_OVERTAKES), job("held", base_id="y"))
    assert pick(Snapshot(waiting, {}, worker=Card(resident=frozenset("y")))) == "old"


def test_a_base_at_hand_gives_no_team_more_than_the_one_whose_turn_it_is_would_have():
    waiting = (job("poor", "a", waited=100, base_id="x"), job("rich", "b", base_id="y"))
    worker = Card(resident=frozenset("y"))
    assert pick(Snapshot(waiting, {"b": TeamUse(gpus=1, weight=2)}, worker=worker)) == "rich"
    assert pick(Snapshot(waiting, {"b": TeamUse(gpus=1)}, worker=worker)) == "poor"


def test_a_base_at_hand_does_not_change_the_order_of_priorities():
    waiting = (job("normal", base_id="x"), job("low", priority=-1, base_id="y"))
    assert pick(Snapshot(waiting, {}, worker=Card(resident=frozenset("y")))) == "normal"


def test_a_team_at_its_quota_is_passed_over_and_told_so():
    teams = {"a": TeamUse(gpus=2, max_gpus=2, weight=100), "b": TeamUse(gpus=5)}
    snapshot = complete((job("capped"), job("next", "b")), teams)
    assert pick(snapshot) == "next"
    assert list(ordered(snapshot)) == ["next", "capped"]
    assert explain(snapshot, "capped") == (
        "Your team may use 2 GPUs at once (its quota): the job waits until one of its jobs ends. "
        "Your team has 2 GPUs in use."
    )


def test_a_job_too_large_for_the_worker_waits_for_another():
    waiting = (job("large", waited=100, needs=Needs(40 * GB)), job("small", needs=Needs(4 * GB)))
    small, large = Card(24 * GB, 80), Card(80 * GB, 90)
    assert pick(Snapshot(waiting, {}, worker=small)) == "small"
    assert pick(Snapshot(waiting, {}, worker=large)) == "large"
    assert "1 of 2 workers can run it" in explain(complete(waiting, {}, cards=(small, large)), "large")


def test_a_job_that_fits_no_worker_is_told_what_is_missing():
    waiting = (job("large", needs=Needs(40 * GB)), job("gpu", needs=Needs(None, 80)), job("far", base_id="x"))
    snapshot = complete(
        waiting, {}, cards=(Card(24 * GB, 75, frozenset("y")), Card(16 * GB, None, frozenset(["", "y"])))
    )
    assert "it takes at least 40.0 GB of memory and the largest has 24.0 GB" in explain(snapshot, "large")
    assert "it needs a GPU of compute capability 8.0 or newer" in explain(snapshot, "gpu")
    assert "no worker has the base 'x' in its folder of bases" in explain(snapshot, "far")


def test_memory_in_use_counts_where_it_is_the_larger_share():
    capacity = Capacity(10, 400 * GB)
    teams = {"a": TeamUse(gpus=2, memory_bytes=160 * GB), "b": TeamUse(gpus=3, memory_bytes=48 * GB)}
    snapshot = Snapshot((job("on large cards", "a"), job("on small cards", "b")), teams, capacity)
    assert pick(snapshot) == "on small cards"


def test_the_position_of_a_job_far_down_needs_no_rows_of_those_before():
    teams = {"a": TeamUse(waiting=60_000), "b": TeamUse(waiting=40_000, weight=2.0)}
    head, far = job("head", "b", waited=9e3), job("far", waited=5.0, rank=20_000)
    assert position(Snapshot((head, far, job("first", waited=8e3)), teams), "far") == 20_000 + 40_000
