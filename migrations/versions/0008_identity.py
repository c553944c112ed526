"""the audit log as a hash chain for each team; service accounts, people, keys that are narrowed

Revision: 0008
"""

from dataclasses import replace

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.audit.chain import INSTALLATION, Entry, Head, entry_sha256

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BATCH = 1000
# A head only moves forward, whoever moves it.
_HEADS = """
CREATE FUNCTION audit_heads_move_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.team_id <> OLD.team_id OR NEW.sequence <= OLD.sequence THEN
        RAISE EXCEPTION 'the head of an audit chain only moves forward: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$
"""


def upgrade() -> None:
    _chain_the_audit_log()
    _add_accounts_and_people()
    # Until now an admin of the first team ran the installation.
    op.execute(
        "UPDATE api_keys SET role = 'operator' FROM teams WHERE teams.id = api_keys.team_id AND teams.slug = 'default' "
        "AND api_keys.name = 'made by tunesmith up' AND api_keys.role = 'admin'"
    )


def _add_accounts_and_people() -> None:
    now = sa.text("clock_timestamp()")
    moment = sa.DateTime(timezone=True)
    op.add_column("teams", sa.Column("archived_at", moment, nullable=True))
    op.create_table(
        "service_accounts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("deleted_at", moment, nullable=True),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_service_accounts_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_accounts")),
    )
    op.create_index("ix_service_accounts_team_created", "service_accounts", ["team_id", "created_at", "id"])
    op.create_table(
        "users",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("is_operator", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("deleted_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("subject", name=op.f("uq_users_subject")),
    )
    op.create_index("ix_users_created", "users", ["created_at", "id"])
    op.create_table(
        "team_members",
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("added_at", moment, server_default=now, nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_team_members_team_id_teams")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_team_members_user_id_users")),
        sa.PrimaryKeyConstraint("team_id", "user_id", name=op.f("pk_team_members")),
    )
    op.create_index(op.f("ix_team_members_user_id"), "team_members", ["user_id"])
    op.add_column("api_keys", sa.Column("permissions", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", moment, nullable=True))
    for name, table in (("service_account_id", "service_accounts"), ("user_id", "users")):
        op.add_column("api_keys", sa.Column(name, sa.String(), nullable=True))
        op.create_foreign_key(op.f(f"fk_api_keys_{name}_{table}"), "api_keys", table, [name], ["id"])
        op.create_index(op.f(f"ix_api_keys_{name}"), "api_keys", [name])


def _chain_the_audit_log() -> None:
    op.create_table(
        "audit_heads",
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", name=op.f("pk_audit_heads")),
    )
    for name, kind in (("sequence", sa.BigInteger()), ("previous_sha256", sa.String()), ("sha256", sa.String())):
        op.add_column("audit_events", sa.Column(name, kind, nullable=True))
    op.alter_column("audit_events", "at", server_default=None)
    op.execute("ALTER TABLE audit_events DISABLE TRIGGER audit_events_refuse_change")
    _chain_what_is_there()
    op.execute("ALTER TABLE audit_events ENABLE TRIGGER audit_events_refuse_change")
    for name in ("sequence", "previous_sha256", "sha256"):
        op.alter_column("audit_events", name, nullable=False)
    op.drop_index("ix_audit_events_team_object", table_name="audit_events")
    op.create_index("ix_audit_events_team_object", "audit_events", ["team_id", "object_id", "sequence"])
    op.create_index("ix_audit_events_team_sequence", "audit_events", ["team_id", "sequence"], unique=True)
    op.create_index(
        "ix_audit_events_sequence",
        "audit_events",
        ["sequence"],
        unique=True,
        postgresql_where=sa.text("team_id IS NULL"),
    )
    op.execute(_HEADS)
    op.execute(
        "CREATE TRIGGER audit_heads_refuse_return BEFORE UPDATE OR DELETE ON audit_heads "
        "FOR EACH ROW EXECUTE FUNCTION audit_heads_move_forward()"
    )


def _chain_what_is_there() -> None:
    """In the order in which the rows were written."""
    connection = op.get_bind()
    heads: dict[str, Head] = {}
    last = 0
    read = sa.text(
        "SELECT id, team_id, at, actor, action, object_id, data FROM audit_events WHERE id > :last ORDER BY id LIMIT :n"
    )
    write = sa.text(
        "UPDATE audit_events SET sequence = :sequence, previous_sha256 = :previous, sha256 = :sha256 WHERE id = :id"
    )
    while rows := connection.execute(read, {"last": last, "n": _BATCH}).all():
        changes = []
        for row in rows:
            team = row.team_id or INSTALLATION
            head = heads.get(team, Head(team))
            entry = Entry(team, head.sequence + 1, row.at, row.actor, row.action, row.object_id, row.data, head.sha256)
            entry = replace(entry, sha256=entry_sha256(entry))
            heads[team] = Head(team, entry.sequence, entry.sha256)
            changes.append({"id": row.id, "sequence": entry.sequence, "previous": head.sha256, "sha256": entry.sha256})
        connection.execute(write, changes)
        last = rows[-1].id
    if heads:
        connection.execute(
            sa.text("INSERT INTO audit_heads (team_id, sequence, sha256) VALUES (:team, :sequence, :sha256)"),
            [head.__dict__ for head in heads.values()],
        )


def downgrade() -> None:
    op.execute("UPDATE api_keys SET role = 'admin' WHERE role = 'operator'")
    for name, table in (("service_account_id", "service_accounts"), ("user_id", "users")):
        op.drop_index(op.f(f"ix_api_keys_{name}"), table_name="api_keys")
        op.drop_constraint(op.f(f"fk_api_keys_{name}_{table}"), "api_keys")
        op.drop_column("api_keys", name)
    op.drop_column("api_keys", "last_used_at")
    op.drop_column("api_keys", "permissions")
    for table in ("team_members", "users", "service_accounts"):
        op.drop_table(table)
    op.drop_column("teams", "archived_at")
    op.drop_table("audit_heads")
    op.execute("DROP FUNCTION audit_heads_move_forward()")
    for name in ("ix_audit_events_sequence", "ix_audit_events_team_sequence", "ix_audit_events_team_object"):
        op.drop_index(name, table_name="audit_events")
    op.create_index("ix_audit_events_team_object", "audit_events", ["team_id", "object_id", "id"])
    op.alter_column("audit_events", "at", server_default=sa.text("clock_timestamp()"))
    for name in ("sequence", "previous_sha256", "sha256"):
        op.drop_column("audit_events", name)
