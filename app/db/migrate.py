"""Brings a database to this version's shape: `python -m app.db.migrate`, or `upgrade(url)` from code.

Processes of the release before go on working meanwhile (decision 0013), so nothing here may hold them up for long.
"""

import time
from collections.abc import Callable
from pathlib import Path

import alembic.command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

import migrations
from app import logs
from app.db.engine import driver_url
from app.settings import load_settings

# Any constant of ours: two processes that start together must not both migrate.
_LOCK = 0x7453_4D31
# Whoever comes after a statement that waits for a table's lock waits too. So it waits for less than a heartbeat may be
# late, gives way to all of them, and comes again.
LOCK_SECONDS = 2.0
GIVE_WAY_SECONDS = 1.0
_TRIES = 60
_LOCK_NOT_AVAILABLE = "55P03"


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the scripts that are packaged with this version."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Run what is missing, each migration in a transaction of its own; harmless on a database that is up to date.

    It waits `LOCK_SECONDS` at most for a lock, then gives way and tries again, for about three minutes; then the
    database's error says what is locked. What was done until then stays, and the next run goes on from there.
    """
    _run(url, lambda config: alembic.command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Go back to `revision`; `base` removes every table and what is in it."""
    _run(url, lambda config: alembic.command.downgrade(config, revision))


def check(url: str) -> None:
    """Raise `alembic.util.CommandError` if the tables in the code differ from those the migrations make."""
    _run(url, alembic.command.check)


def _run(url: str, command: Callable[[Config], None]) -> None:
    engine = create_engine(driver_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.commit()
        connection.execute(text(f"SET lock_timeout = '{round(1000 * LOCK_SECONDS)}ms'"))
        connection.commit()
        try:
            _persist(connection, command)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.commit()


def _persist(connection: Connection, command: Callable[[Config], None]) -> None:
    for left in reversed(range(_TRIES)):
        try:
            command(configuration(connection))
            connection.commit()
        except OperationalError as error:
            connection.rollback()
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE or not left:
                raise
            logs.logger.info("a table is in use for longer; giving way, %d more tries", left)
            time.sleep(GIVE_WAY_SECONDS)
        else:
            return


def main() -> None:
    logs.configure("migrate")
    upgrade(load_settings().database_url.get_secret_value())
    logs.logger.info("the database is up to date")


if __name__ == "__main__":
    main()
