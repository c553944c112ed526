"""Brings a database to this version's shape: `python -m app.db.migrate`, or `upgrade(url)` from code."""

from collections.abc import Callable
from pathlib import Path

import alembic.command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

import migrations
from app import logs
from app.db.engine import driver_url
from app.settings import load_settings

# Any constant of ours: two processes that start together must not both migrate.
_LOCK = 0x7453_4D31


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the scripts that are packaged with this version."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Run what is missing, in one transaction; harmless on a database that is up to date."""
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
        try:
            command(configuration(connection))
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.commit()


def main() -> None:
    logs.configure("migrate")
    upgrade(load_settings().database_url.get_secret_value())
    logs.logger.info("the database is up to date")


if __name__ == "__main__":
    main()
