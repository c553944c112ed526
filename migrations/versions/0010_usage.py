"""the ledger of what is used, prices, budgets and reservations

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import protect

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")
MONEY = sa.Numeric(24, 10)
MOMENT = sa.DateTime(timezone=True)
# A line of the ledger stays written: corrections are further lines.
_REFUSE = """
CREATE FUNCTION usage_records_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$
"""
_ROWS = """
CREATE TRIGGER usage_records_refuse_change BEFORE UPDATE OR DELETE ON usage_records
FOR EACH ROW EXECUTE FUNCTION usage_records_are_append_only()
"""
_TABLE = """
CREATE TRIGGER usage_records_refuse_truncate BEFORE TRUNCATE ON usage_records
FOR EACH STATEMENT EXECUTE FUNCTION usage_records_are_append_only()
"""

_HELD = """
INSERT INTO gpu_leases (job_id, fence, team_id, worker_id, device_kind, gpus, started_at)
SELECT id, fence, team_id, split_part(owner, '/', 1), 'unknown', 1, claimed_at
FROM jobs WHERE owner IS NOT NULL AND claimed_at IS NOT NULL AND status <> 'validating_files'
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("usage", postgresql.JSONB(), nullable=True))
    op.add_column("jobs", sa.Column("estimate", postgresql.JSONB(), nullable=True))
    op.create_index("ix_jobs_base_finished", "jobs", ["base_id", "finished_at"])
    op.create_table(
        "gpu_leases",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=False),
        sa.Column("device_kind", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.CheckConstraint("ended_at >= started_at", name=op.f("ck_gpu_leases_order")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_gpu_leases_team_id_teams")),
        sa.PrimaryKeyConstraint("job_id", "fence", name=op.f("pk_gpu_leases")),
    )
    # Jobs that run while we migrate are counted too.
    op.execute(_HELD)
    op.create_index("ix_gpu_leases_open", "gpu_leases", ["team_id"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "usage_records",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("member", sa.String(), nullable=False),
        sa.Column("object_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("device_kind", sa.String(), nullable=True),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("cost", MONEY, nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint("quantity >= 0 AND ended_at >= started_at", name=op.f("ck_usage_records_sane")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_usage_records_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_records")),
        sa.UniqueConstraint("kind", "source", name=op.f("uq_usage_records_kind_source")),
    )
    op.create_index("ix_usage_records_team_ended", "usage_records", ["team_id", "ended_at"])
    op.create_index("ix_usage_records_object", "usage_records", ["object_id", "kind"])
    for statement in (_REFUSE, _ROWS, _TABLE):
        op.execute(statement)
    _make_prices_and_budgets()
    for table in ("gpu_leases", "usage_records", "team_budgets", "gpu_reservations"):
        protect(op.get_bind(), table)


def _make_prices_and_budgets() -> None:
    op.create_table(
        "prices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("device_kind", sa.String(), nullable=False),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("effective_at", MOMENT, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_prices_amount")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
        sa.UniqueConstraint(
            "kind", "device_kind", "effective_at", name=op.f("uq_prices_kind_device_kind_effective_at")
        ),
    )
    op.create_table(
        "team_budgets",
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("gpu_seconds_per_month", sa.Double(), nullable=True),
        sa.Column("cost_per_month", MONEY, nullable=True),
        sa.Column("storage_bytes", sa.BigInteger(), nullable=True),
        sa.Column("warn_at", sa.Double(), server_default="0.8", nullable=False),
        sa.Column("warned_for", sa.Date(), nullable=True),
        sa.Column("exceeded_for", sa.Date(), nullable=True),
        sa.Column("updated_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint("warn_at > 0 AND warn_at <= 1", name=op.f("ck_team_budgets_warn_at")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_team_budgets_team_id_teams")),
        sa.PrimaryKeyConstraint("team_id", name=op.f("pk_team_budgets")),
    )
    op.create_table(
        "gpu_reservations",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("gpu_seconds", sa.Double(), nullable=False),
        sa.Column("cost", MONEY, nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_gpu_reservations_team_id_teams")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_gpu_reservations")),
    )
    op.create_index(op.f("ix_gpu_reservations_team_id"), "gpu_reservations", ["team_id"])


def downgrade() -> None:
    for table in ("gpu_reservations", "team_budgets", "prices", "usage_records", "gpu_leases"):
        op.drop_table(table)
    op.execute("DROP FUNCTION usage_records_are_append_only()")
    op.drop_index("ix_jobs_base_finished", "jobs")
    op.drop_column("jobs", "estimate")
    op.drop_column("jobs", "usage")
