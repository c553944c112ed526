"""The count of each month equals the sum of the ledger's lines, whoever writes them and however they lie."""

import random
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.db import migrate
from app.db.scope import WORKER, across_teams, team_scope
from app.db.tables import UsageRecord
from app.usage.kinds import Kind
from app.usage.repository import UsageRepository
from tests.support.job_world import JobWorld

MONTHS = [datetime(2026, number, 1, tzinfo=UTC) for number in range(1, 7)]
KINDS = (Kind.GPU_SECONDS, Kind.ENERGY_WH, Kind.BYTE_SECONDS)


@pytest.fixture
def world(services):
    return JobWorld(services)


def line(team_id, source, started_at, seconds, *, kind=Kind.GPU_SECONDS, quantity=None, cost="1.5"):
    return UsageRecord(
        team_id=team_id,
        member="key:k",
        object_id=None,
        kind=kind,
        source=source,
        quantity=seconds if quantity is None else quantity,
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=seconds),
        cost=cost,
    )


def check(session, team_ids):
    """Both ways of asking agree in every month."""
    repository = UsageRepository(session)
    for month, following in pairwise(MONTHS):
        for team_id in team_ids:
            step = following - month
            sums = repository.buckets(start=month, end=following, step=step, team_ids=[team_id])
            counted = repository.month(team_id, month.date())
            expected = {kind: (0.0, Decimal(0)) for kind in counted}
            for one in sums:
                before = expected[one.kind]
                expected[one.kind] = (before[0] + one.quantity, before[1] + one.cost)
            assert set(counted) == {one.kind for one in sums}
            for kind, (quantity, cost) in counted.items():
                assert quantity == pytest.approx(expected[kind][0], rel=1e-9)
                assert float(cost) == pytest.approx(float(expected[kind][1]), rel=1e-6, abs=1e-6)


def test_lines_of_all_lengths_are_shared_out_over_the_months_as_reports_do(world):
    chance = random.Random(7)  # noqa: S311 - no secret
    teams = [world.team.team_id, world.add_team("other").team_id]
    lengths = (0, 1, 3600, 86_400, 40 * 86_400, 100 * 86_400)
    with world.services() as s:
        for number in range(120):
            start = MONTHS[0] + timedelta(seconds=chance.randrange(150 * 86_400))
            if number % 10 == 0:
                start = chance.choice(MONTHS)
            s.work.session.add(
                line(
                    chance.choice(teams),
                    f"s{number}",
                    start,
                    chance.choice(lengths),
                    kind=chance.choice(KINDS),
                    quantity=chance.random() * 1e6,
                    cost=str(round(chance.random() * 100, 6)),
                )
            )
    with world.services() as s:
        check(s.work.session, teams)


def test_a_line_that_ends_with_the_month_is_of_that_month_alone(world):
    with world.services() as s:
        s.work.session.add(line(world.team.team_id, "a", MONTHS[1] - timedelta(hours=1), 3600))
        s.work.session.add(line(world.team.team_id, "b", MONTHS[1], 0, quantity=5.0))
    with world.services() as s:
        usage = UsageRepository(s.work.session)
        assert usage.month(world.team.team_id, date(2026, 1, 1)) == {Kind.GPU_SECONDS: (3600.0, Decimal("1.5"))}
        assert usage.month(world.team.team_id, date(2026, 2, 1)) == {Kind.GPU_SECONDS: (5.0, Decimal("1.5"))}


def test_a_line_that_is_there_already_is_not_counted_again(world):
    with world.services() as s:
        usage = UsageRepository(s.work.session)
        values = {"team_id": world.team.team_id, "member": "k", "object_id": None, "kind": Kind.GPU_SECONDS}
        values |= {"source": "once", "quantity": 7.0, "cost": Decimal(1), "device_kind": "cpu"}
        values |= {"started_at": MONTHS[0], "ended_at": MONTHS[0]}
        assert usage.add_record(**values)
        assert not usage.add_record(**values)
    with world.services() as s:
        usage = UsageRepository(s.work.session)
        assert usage.month(world.team.team_id, MONTHS[0].date()) == {Kind.GPU_SECONDS: (7.0, Decimal(1))}


def test_a_worker_that_stands_still_in_its_transaction_holds_up_nobodys_count(world, context):
    still = context.database.open()
    still.session.add(line(world.team.team_id, "still", MONTHS[0], 10))
    still.session.flush()
    with world.services() as s:
        s.work.session.execute(text("SET LOCAL lock_timeout = '1s'"))
        s.work.session.add(line(world.team.team_id, "other", MONTHS[0], 5))
    still.commit()
    still.close()
    with world.services() as s:
        counted = UsageRepository(s.work.session).month(world.team.team_id, MONTHS[0].date())
        assert counted == {Kind.GPU_SECONDS: (15.0, Decimal(3))}


def test_writers_at_the_same_moment_lose_nothing(world):
    def write(writer):
        for number in range(20):
            with world.services() as s:
                s.work.session.add(line(world.team.team_id, f"{writer}/{number}", MONTHS[0], 1))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with world.services() as s:
        assert UsageRepository(s.work.session).month(world.team.team_id, MONTHS[0].date()) == {
            Kind.GPU_SECONDS: (120.0, Decimal(180))
        }


def test_a_line_that_is_rolled_back_was_never_counted(world, context):
    work = context.database.open()
    work.session.add(line(world.team.team_id, "undone", MONTHS[0], 10))
    work.session.flush()
    work.close()
    with world.services() as s:
        assert UsageRepository(s.work.session).month(world.team.team_id, MONTHS[0].date()) == {}


def test_a_line_of_any_scope_is_counted_and_no_scope_changes_a_count(world, context):
    mine, other = world.team.team_id, world.add_team("other").team_id
    with context.database.unit_of_work(team_scope(mine)) as work:
        work.session.add(line(mine, "own", MONTHS[0], 1))
        with across_teams(work.session):
            work.session.add(line(other, "across", MONTHS[0], 2))
    with context.database.unit_of_work(WORKER) as work:
        work.session.add(line(other, "worker", MONTHS[0], 3))
    with world.services() as s:
        usage = UsageRepository(s.work.session)
        assert usage.month(mine, MONTHS[0].date())[Kind.GPU_SECONDS][0] == 1
        assert usage.month(other, MONTHS[0].date())[Kind.GPU_SECONDS][0] == 5
    for scope in (team_scope(mine), WORKER):
        with pytest.raises(ProgrammingError, match="permission denied"), context.database.unit_of_work(scope) as work:
            work.session.execute(text("UPDATE usage_months SET quantity = 0"))


def test_the_migration_counts_what_is_there(world, servers):
    with world.services() as s:
        for number in range(30):
            start = MONTHS[0] + timedelta(days=5 * number)
            s.work.session.add(line(world.team.team_id, f"m{number}", start, 10 * 86_400, kind=KINDS[number % 3]))
    before = revision_before_the_count()
    try:
        migrate.downgrade(servers.database_url, before)
    finally:
        migrate.upgrade(servers.database_url)
    with world.services() as s:
        assert s.work.session.scalar(text("SELECT count(*) FROM usage_months")) > 10
        check(s.work.session, [world.team.team_id])


def revision_before_the_count():
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    script = ScriptDirectory.from_config(migrate.configuration())
    (found,) = [one for one in script.walk_revisions() if "usage_months" in one.path]
    return found.down_revision
