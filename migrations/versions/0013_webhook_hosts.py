"""webhooks: to which hosts those of a team may go

Revision: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import protect

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_hosts",
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("hosts", postgresql.JSONB(), nullable=True),
        sa.Column("operator_hosts", postgresql.JSONB(), nullable=True),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_webhook_hosts_team_id_teams")),
        sa.PrimaryKeyConstraint("team_id", name=op.f("pk_webhook_hosts")),
    )
    protect(op.get_bind(), "webhook_hosts")


def downgrade() -> None:
    op.drop_table("webhook_hosts")
