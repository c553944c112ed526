"""Row-level security for migrations: `protect` gives a table the wall between teams (decision 0010).

A migration that makes a table with a `team_id` calls `protect(op.get_bind(), "table")`; one whose rows hang on a
protected parent calls it with `using=through("table", "parent", "parent_id")`. A test looks at all tables.
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


def through(table: str, parent: str, column: str) -> str:
    """The rule of rows that belong to a row of `parent`, which has a `team_id` and a rule of its own.

    For tables from which a statement reads few rows; others `take_team_of` the parent first. Not `EXISTS`: Postgres
    would make that a hash of all the team's parents, for each statement.
    """
    return f"(SELECT parent.team_id FROM {parent} AS parent WHERE parent.id = {table}.{column}) = {CURRENT_TEAM}"


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


def take_team_of(connection: Connection, table: str, parent: str, column: str) -> None:
    """Give a child table a `team_id`: filled for the rows that are there, and by a trigger for all that come.

    The trigger asks with the writer's own sight: below a parent of another team there is nothing to take.
    """
    for statement in (
        f"ALTER TABLE {table} ADD COLUMN team_id varchar",
        f"UPDATE {table} SET team_id = parent.team_id FROM {parent} AS parent WHERE parent.id = {table}.{column}",
        f"ALTER TABLE {table} ALTER COLUMN team_id SET NOT NULL",
        (
            f"CREATE FUNCTION {table}_take_team() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"SELECT parent.team_id INTO NEW.team_id FROM {parent} AS parent WHERE parent.id = NEW.{column}; "
            f"RETURN NEW; END $$"
        ),
        f"CREATE TRIGGER {table}_take_team BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_take_team()",
    ):
        connection.execute(text(statement))


def leave_team(connection: Connection, table: str) -> None:
    """Take back what `take_team_of` did, for a way down."""
    for statement in (
        f"DROP TRIGGER {table}_take_team ON {table}",
        f"DROP FUNCTION {table}_take_team()",
        f"ALTER TABLE {table} DROP COLUMN team_id",
    ):
        connection.execute(text(statement))


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
