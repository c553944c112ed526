"""Over time every team gets its share, and nobody waits for ever, also where workers prefer the base they hold."""

import heapq
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.pool.fairshare import choose
from app.pool.snapshot import AGING_SECONDS, Card, Snapshot, TeamUse, WaitingJob

HOUR = AGING_SECONDS


class Pool:
    """GPUs and teams that always have work, or get it as the test says; time goes from one end of a job to the next."""

    def __init__(self, gpus, weights, seed):
        self.random = random.Random(seed)  # noqa: S311 - a seeded mix of jobs, no secret
        self.weights = weights
        self.free = [(0.0, number) for number in range(gpus)]
        self.resident = dict.fromkeys(range(gpus), "x")
        self.waiting = {}
        self.submitted = {}
        self.running = Counter()
        self.used = Counter()
        self.served = {}
        self.on = {}
        self.overtaken = Counter()
        self.started = {}
        self.number = 0

    def submit(self, team, now, *, priority=0, base=None):
        self.number += 1
        name = f"{team}-{self.number}"
        self.waiting[name] = WaitingJob(name, team, priority, 0.0, base or self.random.choice("xyz"))
        self.submitted[name] = now
        return name

    def step(self, seconds):
        """The GPU that is free next takes a job of so many seconds."""
        now, gpu = heapq.heappop(self.free)
        ended = self.on.pop(gpu, None)
        if ended is not None:
            self.running[ended] -= 1
        teams = {
            team: TeamUse(
                gpus=self.running[team], weight=weight, served_seconds_ago=now - self.served.get(team, -float("inf"))
            )
            for team, weight in self.weights.items()
        }
        rows = tuple(
            replace(one, waited_seconds=now - self.submitted[one.job_id], overtaken=self.overtaken[one.job_id])
            for one in self.waiting.values()
        )
        choice = choose(Snapshot(rows, teams, worker=Card(resident=frozenset(self.resident[gpu]))))
        assert choice is not None
        self.overtaken.update(one.job_id for one in choice.overtaken)
        picked = choice.job
        del self.waiting[picked.job_id]
        self.started[picked.job_id] = now
        self.resident[gpu] = picked.base_id
        self.served[picked.team_id] = now
        self.running[picked.team_id] += 1
        self.used[picked.team_id] += seconds
        self.on[gpu] = picked.team_id
        heapq.heappush(self.free, (now + seconds, gpu))
        return now, picked.team_id


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "b": 2.0, "c": 4.0}])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), gpus=st.integers(4, 12))
def test_teams_that_always_have_work_get_their_weighted_shares_within_ten_percent(weights, seed, gpus):
    gpus = max(gpus, 2 * int(sum(weights.values())))
    pool = Pool(gpus, weights, seed)
    for team in weights:
        for _ in range(4):
            pool.submit(team, 0.0)
    for _ in range(gpus * 40):
        now, team = pool.step(pool.random.uniform(0.5, 1.5) * HOUR)
        pool.submit(team, now)
    total = sum(pool.used.values())
    for team, weight in weights.items():
        assert pool.used[team] / total == pytest.approx(weight / sum(weights.values()), rel=0.10)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), priority=st.integers(-1, 1))
def test_no_job_starves_although_workers_prefer_the_base_they_hold(seed, priority):
    """Three GPUs hold `x`, everybody else asks for `x`, and new jobs of high priority keep coming."""
    pool = Pool(3, {"a": 1.0, "b": 1.0}, seed)
    patient = pool.submit("a", 0.0, priority=priority, base="z")
    for _ in range(150):
        now = pool.free[0][0]
        pool.submit("a", now, base="x", priority=pool.random.randint(-1, 1))
        pool.submit("b", now, base="x", priority=pool.random.randint(-1, 1))
        pool.step(HOUR)
        if patient in pool.started:
            break
    assert patient in pool.started
    assert pool.overtaken[patient] <= 4
