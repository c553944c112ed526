"""Row-level security for migrations: `protect` gives a table the wall between teams (decision 0010).

A migration that makes a table with a `team_id` calls `protect(op.get_bind(), "table")`; one whose rows hang on a
protected parent calls it with `using=through("parent", "parent_id")`. A test looks at all tables.
"""

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import ProgrammingError

API = "tunesmith_api"
WORKER = "tunesmith_worker"
CURRENT_TEAM = "current_setting('tunesmith.team_id', true)"
"""NULL or '' before a transaction has told its team: no row has either."""
TEAM = f"team_id = {CURRENT_TEAM}"
ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"


class CannotMakeRolesError(Exception):
    """The database's user may not make the roles; the message is the SQL that somebody else must run."""


def through(parent: str, column: str) -> str:
    """The rule of rows that belong to a row of `parent`: seen if the parent is, by the parent's own rule."""
    return f"EXISTS (SELECT 1 FROM {parent} AS parent WHERE parent.id = {column})"  # noqa: S608 - names of ours


def ensure_roles(connection: Connection) -> None:
    """Make the two roles, once for the whole server, and let this user act as them.

    `CannotMakeRolesError` names the SQL to run where this user may not.
    """
    for role in (API, WORKER):
        # Another database of the same server may be migrated at this moment.
        _try(
            connection,
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} "
            f"NOLOGIN; END IF; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
        )
        _check_plain(connection, role)
        if not _may_act_as(connection, role):
            _try(connection, f"GRANT {role} TO CURRENT_USER")
            if not _may_act_as(connection, role):
                raise CannotMakeRolesError(_help(connection))


def protect(
    connection: Connection, table: str, *, using: str = TEAM, check: str | None = None, api_rights: str = ALL_RIGHTS
) -> None:
    """Let the API's role see and write the rows of its team only; none without a team. Workers see all.

    `using` says which rows are seen, changed and removed, `check` (default: the same) which may be written.
    """
    for statement in (
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        # The owner too, who migrates; he is a member of the workers' role and sees what they see.
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY {table}_of_team ON {table} TO {API} USING ({using}) WITH CHECK ({check or using})",
        f"CREATE POLICY {table}_of_workers ON {table} TO {WORKER} USING (true) WITH CHECK (true)",
    ):
        connection.execute(text(statement))
    grant(connection, table, api_rights=api_rights, worker_rights=ALL_RIGHTS)


def unprotect(connection: Connection, table: str) -> None:
    """Take back what `protect` did, for a way down."""
    for statement in (
        f"DROP POLICY IF EXISTS {table}_of_team ON {table}",
        f"DROP POLICY IF EXISTS {table}_of_workers ON {table}",
        f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        f"REVOKE ALL ON {table} FROM {API}, {WORKER}",
    ):
        connection.execute(text(statement))


def grant(connection: Connection, table: str, *, api_rights: str = ALL_RIGHTS, worker_rights: str = ALL_RIGHTS) -> None:
    """Exactly these rights on a table."""
    connection.execute(text(f"REVOKE ALL ON {table} FROM {API}, {WORKER}"))
    connection.execute(text(f"GRANT {api_rights} ON {table} TO {API}"))
    connection.execute(text(f"GRANT {worker_rights} ON {table} TO {WORKER}"))


def unprotected_team_tables(connection: Connection) -> list[str]:
    """Tables with a `team_id` that have no wall yet."""
    inspector = inspect(connection)
    walled = set(
        connection.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind IN ('r', 'p')"))
    )
    return [
        table
        for table in inspector.get_table_names()
        if table not in walled and any(column["name"] == "team_id" for column in inspector.get_columns(table))
    ]


def _try(connection: Connection, statement: str) -> None:
    """Run it; a missing right becomes the words that mend it."""
    try:
        with connection.begin_nested():
            connection.execute(text(statement))
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) not in {"42501", "0LP01"}:  # no privilege, invalid grant
            raise
        raise CannotMakeRolesError(_help(connection)) from error


def _may_act_as(connection: Connection, role: str) -> bool:
    """Whether this user can switch to the role, and sees what it sees."""
    try:
        with connection.begin_nested():
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            connection.execute(text("RESET ROLE"))
    except ProgrammingError:
        return False
    return bool(connection.scalar(text("SELECT pg_has_role(current_user, :role, 'USAGE')"), {"role": role}))


def _check_plain(connection: Connection, role: str) -> None:
    row = connection.execute(
        text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = :role"), {"role": role}
    ).one()
    if row[0]:
        raise CannotMakeRolesError(
            f"The role {role} is a superuser or bypasses row-level security, and so is no wall between teams. "
            f"Run, as a superuser: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS;"
        )


def _help(connection: Connection) -> str:
    user = connection.scalar(text("SELECT quote_ident(current_user)"))
    return (
        "This database user may not make the roles that keep teams apart. "
        f"Run this as a superuser, once for the server, and start again: "
        f"CREATE ROLE {API} NOLOGIN; CREATE ROLE {WORKER} NOLOGIN; GRANT {API}, {WORKER} TO {user};"
    )
