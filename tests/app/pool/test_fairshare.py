"""Who is next, and that nobody waits for ever."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from app.pool.fairshare import explain, ordered, pick, position
from app.pool.snapshot import AGING_SECONDS, Capacity, Snapshot, TeamUse, WaitingJob, complete, share

jobs = st.builds(
    WaitingJob,
    job_id=st.uuids().map(str),
    team_id=st.sampled_from("abcd"),
    priority=st.integers(-1, 1),
    waited_seconds=st.floats(0, 1e6),
)
uses = st.builds(
    TeamUse,
    gpus=st.integers(0, 5),
    memory_bytes=st.sampled_from([0, 24 * 10**9, 80 * 10**9, 333 * 10**9]),
    weight=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    max_gpus=st.one_of(st.none(), st.integers(0, 7)),
    served_seconds_ago=st.one_of(st.just(float("inf")), st.floats(0, 1e6)),
)
snapshots = st.builds(
    complete,
    waiting=st.lists(jobs, max_size=25, unique_by=lambda job: job.job_id).map(tuple),
    teams=st.dictionaries(st.sampled_from("abcd"), uses),
    capacity=st.sampled_from([Capacity(), Capacity(10), Capacity(10, 500 * 10**9)]),
)


def job(job_id, team="a", *, priority=0, waited=10.0):
    return WaitingJob(job_id, team, priority, waited)


def test_no_job_is_picked_from_an_empty_queue():
    assert pick(Snapshot((), {})) is None


def test_the_team_with_the_fewest_gpus_comes_first():
    waiting = (job("old", "a", waited=500), job("new", "b"))
    assert pick(Snapshot(waiting, {"a": TeamUse(gpus=1)})) == "new"


def test_a_heavier_team_may_use_more_gpus():
    teams = {"a": TeamUse(gpus=2, weight=4), "b": TeamUse(gpus=1, weight=1)}
    assert pick(Snapshot((job("x", "a"), job("y", "b")), teams)) == "x"


def test_among_equal_teams_the_one_served_longest_ago_comes_first():
    teams = {"a": TeamUse(served_seconds_ago=5), "b": TeamUse(served_seconds_ago=50)}
    assert pick(Snapshot((job("x", "a", waited=900), job("y", "b")), teams)) == "y"


def test_a_team_with_many_jobs_cannot_hold_back_a_team_with_one():
    waiting = (*(job(f"a{n}", "a", waited=1000 - n) for n in range(100)), job("b0", "b", waited=1))
    teams = {"a": TeamUse(served_seconds_ago=1)}
    assert position(complete(waiting, teams), "b0") == 0


def test_within_a_team_priority_counts_before_age():
    waiting = (job("old", waited=100), job("urgent", priority=1))
    assert list(ordered(Snapshot(waiting, {}))) == ["urgent", "old"]


def test_a_job_of_low_priority_outgrows_later_urgent_ones():
    waiting = (job("patient", priority=-1, waited=2 * AGING_SECONDS + 10), job("urgent", priority=1))
    assert pick(Snapshot(waiting, {})) == "patient"


@given(snapshots)
def test_the_order_holds_every_waiting_job_once_and_pick_is_its_first(snapshot):
    order = list(ordered(snapshot))
    assert Counter(order) == Counter(waiting.job_id for waiting in snapshot.waiting)
    may_start = [waiting.job_id for waiting in snapshot.waiting if snapshot.use(waiting.team_id).has_room()]
    assert pick(snapshot) == (order[0] if may_start else None)


@settings(max_examples=500)
@given(snapshots)
def test_positions_are_counted_as_the_order_walks(snapshot):
    for before, job_id in enumerate(ordered(snapshot)):
        assert position(snapshot, job_id) == before


@given(snapshots)
def test_the_order_does_not_depend_on_the_order_of_the_rows(snapshot):
    turned = replace(snapshot, waiting=tuple(reversed(snapshot.waiting)))
    assert list(ordered(turned)) == list(ordered(snapshot))


@given(snapshots)
def test_the_picked_job_is_of_a_team_that_uses_least(snapshot):
    picked = pick(snapshot)
    if picked is None:
        return
    team = next(waiting.team_id for waiting in snapshot.waiting if waiting.job_id == picked)
    shares = {
        waiting.team_id: share(use, snapshot.capacity)
        for waiting in snapshot.waiting
        if (use := snapshot.use(waiting.team_id)).has_room()
    }
    assert shares[team] == min(shares.values())


@given(snapshots)
def test_every_job_can_be_explained(snapshot):
    for waiting in snapshot.waiting:
        text = explain(snapshot, waiting.job_id)
        before = position(snapshot, waiting.job_id)
        if not snapshot.use(waiting.team_id).has_room(waiting.rank):
            assert text.startswith("Your team may use")
            continue
        assert ("is next" in text) == (before == 0)
        assert before == 0 or text.startswith(f"{before} job")


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1)), min_size=1, max_size=3), st.integers(1, 3))
def test_no_job_starves_while_new_ones_keep_coming(newcomers, gpus):
    """One patient job of the lowest priority against a stream of new ones, each running for an hour."""
    waiting = [job("patient", "a", priority=-1, waited=0.0)]
    running: list[tuple[float, str]] = []
    served = {}
    now, started = 0.0, set()
    for turn in range(60):
        now += AGING_SECONDS
        waiting = [WaitingJob(j.job_id, j.team_id, j.priority, j.waited_seconds + AGING_SECONDS) for j in waiting]
        waiting += [job(f"{turn}-{n}", team, priority=p, waited=0.0) for n, (team, p) in enumerate(newcomers)]
        running = [(end, team) for end, team in running if end > now]
        while len(running) < gpus:
            counts = Counter(team for _, team in running)
            teams = {
                team: TeamUse(gpus=counts[team], served_seconds_ago=now - served.get(team, float("-inf")))
                for team in "abc"
            }
            picked = pick(Snapshot(tuple(waiting), teams))
            if picked is None:
                break
            chosen = next(j for j in waiting if j.job_id == picked)
            waiting.remove(chosen)
            running.append((now + AGING_SECONDS, chosen.team_id))
            served[chosen.team_id] = now
            started.add(picked)
        if "patient" in started:
            return
    raise AssertionError("the patient job never ran")


def test_the_explanation_counts_own_and_others():
    waiting = (job("first", waited=100), job("mine", waited=50), job("other", "b", waited=10))
    snapshot = complete(waiting, {"a": TeamUse(gpus=1)})
    text = explain(snapshot, "mine")
    assert text.startswith("2 jobs come first: 1 of your team's")
    assert "1 of teams that use fewer GPUs" in text
    assert "Your team has 1 GPU in use." in text
    assert explain(snapshot, "absent") == "The job is not waiting for a GPU."
