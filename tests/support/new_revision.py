"""`python -m tests.support.new_revision MESSAGE`: writes a migration for what the tables have that the migrations lack.

Works on a Postgres of its own that is thrown away.
"""

import sys
import tempfile
from pathlib import Path

import alembic.command
from sqlalchemy import create_engine

from app.db.engine import driver_url
from app.db.migrate import configuration, upgrade
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.sockets import private_socket_folder


def main() -> None:
    message = " ".join(sys.argv[1:]).strip()
    if not message:
        sys.exit('Say what changes: make revision MESSAGE="jobs: add a column"')
    with tempfile.TemporaryDirectory(prefix="tsm-") as name:
        folder = Path(name)
        server = EmbeddedPostgres(
            folder / "postgres", private_socket_folder(folder / "run"), log_file=folder / "log", durable=False
        )
        server.prepare()
        process = server.spawn()
        try:
            server.wait_ready(process)
            server.create_database()
            upgrade(server.url())
            engine = create_engine(driver_url(server.url()))
            with engine.connect() as connection:
                alembic.command.revision(configuration(connection), message, autogenerate=True)
            engine.dispose()
        finally:
            server.stop(process)


if __name__ == "__main__":
    main()
