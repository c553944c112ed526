"""Migration 0008 on a database in use: the log that is there becomes a chain, and the first key an operator's."""

import psycopg

from app.audit.service import AuditService
from app.broker import CeleryBroker
from app.db import migrate
from app.db.engine import Database
from tests.app.db.test_migrate import empty_database_url  # noqa: F401 - a fixture

OLD = """
    INSERT INTO teams (id, name, slug) VALUES ('t', 'Default', 'default'), ('u', 'Other', 'other');
    INSERT INTO api_keys (id, team_id, name, role, sha256, hint)
    VALUES ('first', 't', 'made by tunesmith up', 'admin', '\\x01', '…'), ('mine', 't', 'mine', 'admin', '\\x02', '…'),
           ('theirs', 'u', 'made by tunesmith up', 'admin', '\\x03', '…');
    INSERT INTO audit_events (team_id, actor, action, object_id, data)
    SELECT CASE number % 3 WHEN 0 THEN 't' WHEN 1 THEN 'u' END, 'system', 'thing.make', number::text,
           json_build_object('number', number / 7.0, 'text', 'ä')
    FROM generate_series(1, 2500) AS number;
"""


def test_what_was_logged_before_is_chained_and_can_be_verified(empty_database_url, servers):  # noqa: F811
    migrate.upgrade(empty_database_url, "0006")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(OLD)
    migrate.upgrade(empty_database_url)
    broker = CeleryBroker(servers.redis_url)
    database = Database(empty_database_url, broker)
    with database.unit_of_work() as work:
        audit = AuditService(work)
        checked = {team: audit.verify(team, limit=5000)[0] for team in ("t", "u", "installation")}
        audit.record("t", "system", "thing.make", "next")
    with database.unit_of_work() as work:
        assert AuditService(work).verify("t", limit=5000)[0].faults == ()
    database.close()
    broker.close()
    assert {team: (verdict.checked, verdict.faults) for team, verdict in checked.items()} == {
        "t": (833, ()),
        "u": (834, ()),
        "installation": (833, ()),
    }
    with psycopg.connect(empty_database_url) as connection:
        roles = connection.execute("SELECT id, role FROM api_keys ORDER BY id").fetchall()
    assert roles == [("first", "operator"), ("mine", "admin"), ("theirs", "admin")]
