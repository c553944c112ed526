"""What SQL loads of the queue decides as all of it would, and ranks are counted as they are sorted."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.db.tables import Job, TeamLimits
from app.pool.fairshare import choose, explain, position
from app.pool.service import WorkerCard
from app.pool.snapshot import Card, Needs, WaitingJob, complete
from app.pool.snapshot_repository import SnapshotRows
from tests.app.pool.trimming import trimmed

GB = 10**9
BASES = ("tiny", "small", "large")


def fill(world, seed, *, jobs):
    """Random waiting and running jobs of four teams, as rows."""
    chance = random.Random(seed)  # noqa: S311 - a seeded mix of jobs, no secret
    teams = [world.team, *(world.add_team(f"team-{number}") for number in range(3))]
    for base_id in BASES[1:]:
        world.add_base(base_id)
    with world.services() as s:
        now = s.work.session.scalar(select(func.clock_timestamp()))
        for team in teams[:3]:
            s.work.session.add(
                TeamLimits(
                    team_id=team.team_id,
                    weight=chance.choice([0.5, 1.0, 3.0]),
                    max_gpus=chance.choice([None, 2, 4]),
                )
            )
        for number in range(jobs):
            is_held = chance.random() < 0.2
            queued_at = now - timedelta(seconds=chance.choice([3600, 7200, chance.uniform(0, 20_000)]))
            s.work.session.add(
                Job(
                    id=f"ftjob-{number:05}",
                    team_id=chance.choice(teams).team_id,
                    created_by="test",
                    status="running" if is_held else "queued",
                    base_id=chance.choice(BASES),
                    training_file="file-1",
                    seed=1,
                    priority=chance.choice([-1, 0, 1]),
                    method={},
                    hyperparameters={},
                    owner=f"host-{number}/first" if is_held else None,
                    lease_until=now + timedelta(hours=1) if is_held else None,
                    claimed_at=now - timedelta(seconds=chance.uniform(0, 9000)) if is_held else None,
                    not_before=now + timedelta(hours=1) if chance.random() < 0.05 else None,
                    created_at=queued_at,
                    queued_at=queued_at,
                    overtaken=chance.choice([0, 4]),
                    memory_bytes=chance.choice([None, 10 * GB, 60 * GB]),
                    compute_capability=chance.choice([None, 80]),
                )
            )
    return teams


def everything(session, now, like, counts=None):
    """A snapshot of all rows, with the uses of another."""
    rows = session.scalars(select(Job).where(Job.status == "queued", Job.not_before.is_(None))).all()
    waiting = tuple(
        WaitingJob(
            row.id,
            row.team_id,
            row.priority,
            (now - row.queued_at).total_seconds(),
            row.base_id,
            Needs(row.memory_bytes, row.compute_capability),
            row.overtaken,
        )
        for row in rows
    )
    return complete(waiting, like.teams, capacity=like.capacity, worker=like.worker, cards=like.cards)


WORKERS = (
    None,
    Card(),
    Card(80 * GB, 90, frozenset(BASES), frozenset({"small"})),
    Card(24 * GB, 75, frozenset({"tiny", "large"}), frozenset({"large"})),
    Card(24 * GB, None, None, frozenset({"tiny", "small"})),
)


@pytest.mark.parametrize("seed", range(3))
def test_the_heads_that_sql_finds_decide_as_all_rows_do(world, seed):
    fill(world, seed, jobs=150)
    for worker in WORKERS:
        with world.services() as s:
            rows = SnapshotRows(s.work.session, alive_seconds=30)
            moment = rows._moment()
            now = moment[0]
            rows._moment = lambda moment=moment: moment
            loaded = rows.for_claim("queued", worker)
            full = everything(s.work.session, now, loaded)
            assert len(loaded.waiting) <= 4 * 2
            assert {job.job_id for job in loaded.waiting} <= {job.job_id for job in trimmed(full).waiting}
            chosen, expected = choose(loaded), choose(full)
            assert chosen.job.job_id == expected.job.job_id
            assert [one.job_id for one in chosen.overtaken] == [one.job_id for one in expected.overtaken]


@pytest.mark.parametrize("seed", range(2))
def test_a_job_stands_where_all_rows_say_it_does(world, seed):
    fill(world, seed, jobs=120)
    with world.services() as s:
        rows = SnapshotRows(s.work.session, alive_seconds=30)
        moment = rows._moment()
        now = moment[0]
        rows._moment = lambda: moment
        jobs = s.work.session.scalars(select(Job).where(Job.status == "queued", Job.not_before.is_(None))).all()
        full = everything(s.work.session, now, rows.for_explanation(jobs[0], rows.queue()))
        for job in jobs:
            around = rows.for_explanation(job, rows.queue())
            assert position(around, job.id) == position(full, job.id)
            assert explain(around, job.id) == explain(full, job.id)


def test_a_worker_is_known_by_its_row_and_holds_the_bases_of_its_weights(world):
    card = WorkerCard(
        "gpu0@host", "first", "host", {"name": "a"}, memory_bytes=80 * GB, compute_capability=90, bases=("tiny",)
    )
    with world.services() as s:
        s.pool.register_worker(card)
        s.pool.heartbeat_worker("gpu0@host", "first", resident_base="0" * 64)
    with world.services() as s:
        rows = SnapshotRows(s.work.session, alive_seconds=30)
        _, found = rows.worker("gpu0@host/first")
        assert found == Card(80 * GB, 90, frozenset({"tiny"}), frozenset({"tiny"}))
        assert rows.cards() == (replace(found, resident=frozenset()),)
        assert rows.worker("gpu0@host/second") is None
        assert rows.worker("elsewhere/first") is None
