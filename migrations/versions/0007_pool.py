"""the pool of several teams: limits, what jobs need, what workers offer, why a job was asked to let go

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_WAITING = "status IN ('validating_files', 'queued', 'paused')"
_HELD_BACK = "status = 'queued' AND (owner IS NOT NULL OR not_before IS NOT NULL)"


def upgrade() -> None:
    op.create_table(
        "team_limits",
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("weight", sa.Float(), server_default="1", nullable=False),
        sa.Column("max_gpus", sa.Integer(), nullable=True),
        sa.Column("max_queued_jobs", sa.Integer(), nullable=True),
        sa.Column("may_share", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("weight > 0", name=op.f("ck_team_limits_weight")),
        sa.CheckConstraint("max_gpus >= 0", name=op.f("ck_team_limits_max_gpus")),
        sa.CheckConstraint("max_queued_jobs >= 0", name=op.f("ck_team_limits_max_queued_jobs")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_team_limits_team_id_teams")),
        sa.PrimaryKeyConstraint("team_id", name=op.f("pk_team_limits")),
    )
    op.add_column("jobs", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("compute_capability", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("overtaken", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("losses", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("preempt_reason", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("preempted_at", sa.DateTime(timezone=True), nullable=True))
    # Old rows are as old as the job; a default of the clock would make them all young.
    op.add_column("jobs", sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE jobs SET queued_at = created_at")
    op.alter_column("jobs", "queued_at", nullable=False, server_default=sa.text("clock_timestamp()"))
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["status", "team_id", "priority", "queued_at", "id"],
        postgresql_where=sa.text(_WAITING),
    )
    op.create_index(
        "ix_jobs_waiting_base",
        "jobs",
        ["base_id", "team_id", "priority", "queued_at", "id"],
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index("ix_jobs_held_back", "jobs", ["team_id"], postgresql_where=sa.text(_HELD_BACK))
    op.add_column("workers", sa.Column("gpus", sa.Integer(), server_default="1", nullable=False))
    op.add_column("workers", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("compute_capability", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("bases", postgresql.ARRAY(sa.String()), nullable=True))
    op.add_column("workers", sa.Column("drain", sa.String(), nullable=True))
    op.create_check_constraint(op.f("ck_workers_drain"), "workers", "drain IN ('finish', 'checkpoint')")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_workers_drain"), "workers", type_="check")
    for column in ("drain", "bases", "compute_capability", "memory_bytes", "gpus"):
        op.drop_column("workers", column)
    for index in ("ix_jobs_held_back", "ix_jobs_waiting_base", "ix_jobs_waiting"):
        op.drop_index(index, table_name="jobs")
    for column in (
        "queued_at",
        "preempted_at",
        "preempt_reason",
        "losses",
        "overtaken",
        "compute_capability",
        "memory_bytes",
    ):
        op.drop_column("jobs", column)
    op.drop_table("team_limits")
