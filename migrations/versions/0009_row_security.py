"""row-level security: the second wall between teams

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

from migrations.row_security import (
    ALL_RIGHTS,
    API,
    CURRENT_TEAM,
    TEAM,
    WORKER,
    ensure_roles,
    grant,
    leave_team,
    protect,
    take_team_of,
    through,
    unprotect,
    unprotected_team_tables,
)

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_OF_TEAM = (
    "api_keys",
    "eval_output_items",
    "eval_runs",
    "evals",
    "files",
    "idempotency_keys",
    "job_events",
    "job_metrics",
    "jobs",
    "service_accounts",
    "stored_completions",
    "team_members",
    "tuned_models",
    "uploads",
)
_OF_PARENT = {
    "checkpoints": ("jobs", "job_id"),
    "upload_parts": ("uploads", "upload_id"),
}
# Tables of many rows, which get their parent's team in a column of their own: a rule that asks the parent for each row
# costs 12 microseconds a row.
_WITH_TEAM_OF = {
    "eval_output_items": ("eval_runs", "run_id"),
    "job_events": ("jobs", "job_id"),
    "job_metrics": ("jobs", "job_id"),
}
_SHARED = ("base_models", "pending_artifacts", "workers")
_OTHERS = ("audit_events", "audit_heads", "checkpoint_permissions", "teams", "users")
# Who calls is known by the key alone, before there is a team: the one way to look over the wall without a scope.
_FIND_KEY = """
CREATE FUNCTION tunesmith_find_key(wanted bytea)
RETURNS TABLE (
    id varchar, team_id varchar, slug varchar, role varchar, permissions jsonb, sha256 bytea,
    expires_at timestamptz, revoked_at timestamptz, archived_at timestamptz, last_used_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER
BEGIN ATOMIC
    SELECT k.id, k.team_id, t.slug, k.role, k.permissions, k.sha256,
           k.expires_at, k.revoked_at, t.archived_at, k.last_used_at
    FROM api_keys k JOIN teams t ON t.id = k.team_id WHERE k.sha256 = wanted;
END;
REVOKE ALL ON FUNCTION tunesmith_find_key(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tunesmith_find_key(bytea) TO tunesmith_api, tunesmith_worker;
"""


def upgrade() -> None:
    connection = op.get_bind()
    ensure_roles(connection)
    _name_the_owner_of_permissions()
    for table, (parent, column) in _WITH_TEAM_OF.items():
        take_team_of(connection, table, parent, column)
    for table in _OF_TEAM:
        protect(connection, table)
    for table, (parent, column) in _OF_PARENT.items():
        protect(connection, table, using=through(table, parent, column))
    for table in _SHARED:
        grant(connection, table)
    protect(connection, "teams", using=f"id = {CURRENT_TEAM}", api_rights="SELECT, UPDATE")
    # Members of the team: the rule of `team_members` applies inside.
    protect(
        connection,
        "users",
        using="EXISTS (SELECT 1 FROM team_members AS member WHERE member.user_id = users.id)",
        api_rights="SELECT, UPDATE",
    )
    _protect_shared_models(connection)
    _protect_the_audit_log(connection)
    for table in unprotected_team_tables(connection):
        protect(connection, table)
    op.execute(f"ALTER DEFAULT PRIVILEGES GRANT {ALL_RIGHTS} ON TABLES TO {API}, {WORKER}")
    op.execute(_FIND_KEY)


def _name_the_owner_of_permissions() -> None:
    """So that a permission's rule need not ask the model's, whose rule asks the permission's."""
    op.add_column("checkpoint_permissions", sa.Column("owner_team_id", sa.String(), nullable=True))
    op.execute(
        "UPDATE checkpoint_permissions SET owner_team_id = tuned_models.team_id "
        "FROM tuned_models WHERE tuned_models.id = checkpoint_permissions.model_id"
    )
    op.alter_column("checkpoint_permissions", "owner_team_id", nullable=False)


def _protect_shared_models(connection: sa.Connection) -> None:
    own = f"owner_team_id = {CURRENT_TEAM}"
    protect(connection, "checkpoint_permissions", using=own)
    op.execute(
        f"CREATE POLICY checkpoint_permissions_lent ON checkpoint_permissions FOR SELECT TO {API} USING ({TEAM})"
    )
    op.execute(
        f"CREATE POLICY tuned_models_shared ON tuned_models FOR SELECT TO {API} USING (EXISTS (SELECT 1 FROM "
        f"checkpoint_permissions AS p WHERE p.model_id = tuned_models.id AND p.team_id = {CURRENT_TEAM}))"
    )


def _protect_the_audit_log(connection: sa.Connection) -> None:
    """Rows of no team, the installation's, are reached across teams only; nobody changes any row."""
    for table, rights in (("audit_events", "SELECT, INSERT"), ("audit_heads", "SELECT, INSERT, UPDATE")):
        protect(connection, table)
        grant(connection, table, api_rights=rights, worker_rights=rights)


def downgrade() -> None:
    """The roles stay: other databases of the server may use them."""
    connection = op.get_bind()
    op.execute("DROP FUNCTION tunesmith_find_key(bytea)")
    op.execute(f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {API}, {WORKER}")
    op.execute("DROP POLICY tuned_models_shared ON tuned_models")
    op.execute("DROP POLICY checkpoint_permissions_lent ON checkpoint_permissions")
    named = {*_OF_TEAM, *_OF_PARENT, *_OTHERS}
    walled = connection.scalars(sa.text("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind = 'r'")).all()
    for table in sorted(named | set(walled)):
        unprotect(connection, table)
    for table in _SHARED:
        op.execute(f"REVOKE ALL ON {table} FROM {API}, {WORKER}")
    for table in _WITH_TEAM_OF:
        leave_team(connection, table)
    op.drop_column("checkpoint_permissions", "owner_team_id")
