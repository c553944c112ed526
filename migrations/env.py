"""Runs migrations online, on the connection given by `app.db.migrate`, or on the settings' database."""

from alembic import context
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

import app.db.tables  # noqa: F401 - fills the metadata
from app.db.base import Base
from app.db.engine import driver_url
from app.settings import load_settings


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    if context.is_offline_mode():
        raise SystemExit("Offline mode is not supported: run the migrations on the database itself.")
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    engine = create_engine(driver_url(load_settings().database_url.get_secret_value()), poolclass=NullPool)
    with engine.connect() as connection:
        run(connection)


main()
