"""The second wall: as the API's database role, Postgres itself keeps teams apart, whatever a query forgets."""

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import ProgrammingError

from app.db.base import Base
from app.db.cursor import LazyCursor
from app.db.scope import API, WORKER, across_teams, enter_team, team_scope
from app.db.tables import ApiKey, AuditEvent, File, Job, JobEvent, Team, TunedModel, User
from app.errors import Unauthorized
from app.factory import Services
from app.identity.keys import make_key
from app.identity.policy import Role
from tests.support.team_objects import add_base, add_objects

SHARED = frozenset({"base_models", "login_steps", "pending_artifacts", "prices", "workers"})
"""Tables of the installation: no row is a team's."""


@pytest.fixture
def world(services, context):
    """Two teams with one object of each kind."""
    with services() as s:
        add_base(s.work.session)
        teams = {slug: s.identity.create_team(slug, slug).id for slug in ("a", "b")}
        objects = {slug: add_objects(s.work.session, team).ids for slug, team in teams.items()}
        for ids in objects.values():
            s.work.session.add(
                JobEvent(id=f"ftevent-{ids['job_id']}", job_id=ids["job_id"], level="info", type="message", message="m")
            )
    return World(context.database, teams, objects)


class World:
    def __init__(self, database, teams, objects):
        self.database = database
        self.teams = teams
        self.objects = objects

    def within(self, slug):
        return self.database.unit_of_work(team_scope(self.teams[slug]))


def test_every_table_of_a_team_has_the_wall_and_every_other_is_known_to_be_shared(servers):
    with psycopg.connect(servers.database_url) as connection:
        rows = connection.execute(
            "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, array_agg(r.rolname::text) "
            "FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid "
            "LEFT JOIN pg_roles r ON r.oid = ANY(p.polroles) "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') GROUP BY 1, 2, 3"
        ).fetchall()
    walled = {name for name, enabled, forced, _ in rows if enabled and forced}
    assert walled == set(Base.metadata.tables) - SHARED
    for name, _, _, roles in rows:
        if name in walled:
            assert set(roles) == {"tunesmith_api", "tunesmith_worker"}, name
    with_team = {table.name for table in Base.metadata.tables.values() if "team_id" in table.columns}
    assert with_team <= walled


def test_the_roles_bypass_nothing_and_cannot_log_in(servers):
    with psycopg.connect(servers.database_url) as connection:
        rows = connection.execute(
            "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole FROM pg_roles "
            "WHERE rolname LIKE 'tunesmith_%' ORDER BY 1"
        ).fetchall()
    assert rows == [("tunesmith_api", *[False] * 4), ("tunesmith_worker", *[False] * 4)]


@pytest.mark.parametrize("team", [None, "", "team_none"])
def test_without_a_team_there_are_no_rows(world, team):
    scope = API if team is None else team_scope(team)
    with world.database.unit_of_work(scope) as work:
        for table in Base.metadata.sorted_tables:
            if table.name not in SHARED:
                assert work.session.scalar(select(func.count()).select_from(table)) == 0, table.name


def test_a_team_reads_its_own_rows_of_every_table_and_nothing_else(world):
    """Without any WHERE: what a forgotten condition would show."""
    for mine, theirs in (("a", "b"), ("b", "a")):
        with world.within(mine) as work:
            for table in Base.metadata.sorted_tables:
                if table.name in SHARED:
                    continue
                seen = " ".join(work.session.scalars(text(f"SELECT t::text FROM {table.name} t")))  # noqa: S608
                foreign = [
                    value for part, value in world.objects[theirs].items() if part != "base_id" and value in seen
                ]
                assert foreign == [], table.name
                if table.name not in {"idempotency_keys", "job_metrics", "upload_parts"}:
                    assert seen, table.name


def test_a_join_and_an_aggregate_see_the_team_only(world):
    with world.within("a") as work:
        joined = select(Job.id, File.id).join(File, File.id == Job.training_file)
        assert {row[0] for row in work.session.execute(joined)} == {
            world.objects["a"]["job_id"],
            world.objects["a"]["evaluation_id"],
        }
        assert work.session.scalar(select(func.count()).select_from(Job)) == 2
        assert work.session.scalar(select(func.count()).select_from(Team)) == 1
        assert work.session.scalars(select(func.max(AuditEvent.team_id))).one() == world.teams["a"]


def refused(world, slug, run):
    def whole():
        with world.within(slug) as work:
            run(work.session)

    with pytest.raises(ProgrammingError, match=r"row-level security|permission denied"):
        whole()


def test_a_row_of_another_team_cannot_be_written_changed_moved_or_removed(world):
    ids = world.objects["b"]

    def insert(session):
        session.add(
            File(
                id="file-x", team_id=world.teams["b"], filename="f", purpose="p", bytes=1, sha256="0", artifact_key="k"
            )
        )

    def insert_below(session):
        session.add(JobEvent(id="ftevent-x", job_id=ids["job_id"], level="info", type="message", message="m"))

    def move(session):
        session.execute(update(File).values(team_id=world.teams["b"]).where(File.id == world.objects["a"]["file_id"]))

    for run in (insert, insert_below, move):
        refused(world, "a", run)
    with world.within("a") as work:
        for table, part in (("files", "file_id"), ("jobs", "job_id"), ("tuned_models", "model")):
            for statement in (f"UPDATE {table} SET created_at = now()", f"DELETE FROM {table}"):  # noqa: S608
                if statement.startswith("DELETE") and table != "files":
                    continue
                found = work.session.execute(text(f"{statement} WHERE id = :id"), {"id": ids[part]})
                assert found.rowcount == 0, statement
    with world.within("b") as work:
        assert work.session.get(File, ids["file_id"]) is not None


@pytest.mark.parametrize("scope", ["api", "worker"])
def test_neither_role_can_change_or_remove_an_audit_event(world, scope):
    chosen = team_scope(world.teams["a"]) if scope == "api" else WORKER
    for statement in ("UPDATE audit_events SET actor = 'x'", "DELETE FROM audit_events", "DELETE FROM audit_heads"):
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            world.database.unit_of_work(chosen) as work,
        ):
            work.session.execute(text(statement))


def test_a_model_shared_with_a_team_is_seen_and_not_changed(world):
    model, permission = world.objects["a"]["model"], world.objects["a"]["permission_id"]
    with world.database.unit_of_work() as work:
        work.session.execute(
            text("UPDATE checkpoint_permissions SET team_id = :team WHERE id = :id"),
            {"team": world.teams["b"], "id": permission},
        )
    with world.within("b") as work:
        assert work.session.get(TunedModel, model) is not None
        changed = work.session.execute(update(TunedModel).where(TunedModel.id == model).values(stage="serving"))
        assert changed.rowcount == 0
        removed = work.session.execute(text("DELETE FROM checkpoint_permissions WHERE id = :id"), {"id": permission})
        assert removed.rowcount == 0


def test_a_connection_of_the_pool_keeps_nothing_for_its_next_user(settings, world):
    """One connection: after a commit, a rollback and a fault, the next transaction begins without a team."""
    from app.broker import CeleryBroker  # noqa: PLC0415
    from app.db.engine import Database  # noqa: PLC0415

    broker = CeleryBroker(settings.redis_url.get_secret_value())
    database = Database(settings.database_url.get_secret_value(), broker, pool_size=1)
    database.engine.pool._max_overflow = 0

    def count(scope):
        with database.unit_of_work(scope) as work:
            return work.session.scalar(select(func.count()).select_from(Job)), work.session.scalar(
                text("SELECT pg_backend_pid()")
            )

    own = team_scope(world.teams["a"])
    assert count(own)[0] == 2
    assert count(API)[0] == 0
    work = database.open(own)
    assert work.session.scalar(select(func.count()).select_from(Job)) == 2
    work.close()
    assert count(API)[0] == 0
    with pytest.raises(ProgrammingError), database.unit_of_work(own) as work:
        work.session.execute(text("SELECT * FROM no_such_table"))
    (after, first), (_, second) = count(API), count(own)
    assert (after, first) == (0, second)
    with database.unit_of_work() as work:
        assert work.session.scalar(text("SELECT current_user")) not in {"tunesmith_api", "tunesmith_worker"}
    database.close()
    broker.close()


def test_a_unit_of_work_enters_its_team_for_all_its_transactions(world):
    with world.database.unit_of_work(API) as work:
        assert work.session.scalar(select(func.count()).select_from(Job)) == 0
        enter_team(work.session, world.teams["a"])
        assert work.session.scalar(select(func.count()).select_from(Job)) == 2
        work.commit()
        assert work.session.scalar(select(func.count()).select_from(Job)) == 2


def test_across_teams_ends_with_its_block_and_with_an_error(world):
    def count(session):
        return session.scalar(select(func.count()).select_from(Team))

    with world.within("a") as work:
        with across_teams(work.session):
            assert count(work.session) == 2
            with across_teams(work.session):
                assert count(work.session) == 2
            assert count(work.session) == 2
        assert count(work.session) == 1
        with pytest.raises(RuntimeError), across_teams(work.session):
            raise RuntimeError
        assert count(work.session) == 1
        with pytest.raises(ProgrammingError), across_teams(work.session):
            work.session.execute(text("SELECT * FROM no_such_table"))
        work.rollback()
        assert count(work.session) == 1


def test_what_opens_a_transaction_in_the_api_and_names_no_team_sees_nothing(world, context):
    from app.main import create_app  # noqa: PLC0415

    with create_app(context).state.context.database.unit_of_work() as work:
        assert work.session.scalar(text("SELECT current_user")) == "tunesmith_api"
        assert work.session.scalar(select(func.count()).select_from(Job)) == 0


def test_a_request_asks_for_its_key_and_enters_its_team_in_one_round_trip(world, services):
    """And a key that is unknown enters none."""
    with services() as s:
        _, key = s.identity.create_key(world.teams["a"], "k", Role.VIEWER)
    seen = []

    class Noting(LazyCursor):
        def execute(self, query, *values, **options):
            seen.append(query)
            return super().execute(query, *values, **options)

    with world.database.unit_of_work(API) as work, world.database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        connection.close()
        driver.cursor_factory = Noting
        identity = Services(s.context, work).identity
        assert identity.authenticate(key).team_id == world.teams["a"]
        assert work.session.scalar(select(func.count()).select_from(Job)) == 2
        driver.cursor_factory = LazyCursor
    assert len(seen) == 2
    assert "tunesmith_find_caller" in seen[0]
    with world.database.unit_of_work(API) as work:
        with pytest.raises(Unauthorized):
            Services(s.context, work).identity.authenticate(make_key().text)
        assert work.session.scalar(select(func.count()).select_from(Job)) == 0


def test_people_are_seen_by_the_teams_they_are_members_of(world):
    with world.within("a") as work:
        assert set(work.session.scalars(select(User.id))) == {world.objects["a"]["user_id"]}


def test_a_key_is_found_by_its_hash_alone_and_by_no_other_way(world):
    with world.database.unit_of_work(API) as work:
        assert list(work.session.scalars(select(ApiKey.id))) == []
        found = work.session.execute(
            text("SELECT team_id FROM tunesmith_find_caller((:hash)::bytea)"), {"hash": b"nothing"}
        )
        assert found.all() == []


# Servers of others: the user that the settings name is no superuser.


@pytest.fixture
def plain_user(servers, worker_number):
    """A database of a user who may nothing special, as `(url, superuser's connection)`."""
    user, database = f"plain_{worker_number}", f"plain_{worker_number}"
    admin = psycopg.connect(servers.database_url, autocommit=True)
    name = admin.info.dbname
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
    admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(user)))
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER PASSWORD 'p'").format(sql.Identifier(user)))
    admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(user)))
    url = servers.database_url.replace("postgres@", f"{user}@", 1).replace(f"/{name}", f"/{database}", 1)
    yield url, user, admin
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
    admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))
    admin.close()


def test_a_user_who_may_not_make_roles_is_told_the_sql_to_run_and_then_it_works(plain_user, settings):
    from app.broker import CeleryBroker  # noqa: PLC0415
    from app.db import migrate  # noqa: PLC0415
    from app.db.engine import Database  # noqa: PLC0415
    from migrations.row_security import CannotMakeRolesError  # noqa: PLC0415

    url, user, admin = plain_user
    with pytest.raises(CannotMakeRolesError, match=f"GRANT tunesmith_api, tunesmith_worker TO {user};"):
        migrate.upgrade(url)
    admin.execute(sql.SQL("GRANT tunesmith_api, tunesmith_worker TO {}").format(sql.Identifier(user)))
    migrate.upgrade(url)
    migrate.check(url)
    broker = CeleryBroker(settings.redis_url.get_secret_value())
    database = Database(url, broker)
    with database.unit_of_work() as work:
        add_base(work.session)
        work.session.add_all([Team(id="team_a", name="a", slug="a"), Team(id="team_b", name="b", slug="b")])
        work.session.flush()
        ids = add_objects(work.session, "team_a").ids
    for scope, expected in ((None, 2), (WORKER, 2), (team_scope("team_a"), 1), (API, 0)):
        with database.unit_of_work(scope) as work:
            assert work.session.scalar(select(func.count()).select_from(Team)) == expected
    with database.unit_of_work(team_scope("team_a")) as work:
        # Foreign keys and cascades are checked by the owner, who is bound by the wall as well.
        work.session.execute(text("DELETE FROM evals WHERE id = :id"), {"id": ids["eval_id"]})
    # Data migrations of the owner see all rows.
    migrate.downgrade(url, "0008")
    migrate.upgrade(url)
    database.close()
    broker.close()
