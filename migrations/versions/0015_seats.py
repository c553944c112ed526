"""seats: what riding together depends on, and leases that share a worker's time

Revision: 0015
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("riding", postgresql.JSONB(none_as_null=True), nullable=True))
    op.add_column("gpu_leases", sa.Column("gpu_seconds", sa.Double(), server_default="0", nullable=False))
    op.add_column("gpu_leases", sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("gpu_leases", sa.Column("riders", sa.Integer(), server_default="1", nullable=False))
    # What a worker's open leases are is asked at each claim and each end.
    op.create_index(
        "ix_gpu_leases_worker_open", "gpu_leases", ["worker_id"], postgresql_where=sa.text("ended_at IS NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_gpu_leases_worker_open", table_name="gpu_leases")
    op.drop_column("gpu_leases", "riders")
    op.drop_column("gpu_leases", "settled_at")
    op.drop_column("gpu_leases", "gpu_seconds")
    op.drop_column("jobs", "riding")
