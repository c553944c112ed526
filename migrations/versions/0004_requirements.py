"""what a job's model must reach, and the stage a model has reached

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("requirements", sa.Text(), nullable=True))
    op.add_column("tuned_models", sa.Column("stage", sa.String(), server_default="candidate", nullable=False))


def downgrade() -> None:
    op.drop_column("tuned_models", "stage")
    op.drop_column("jobs", "requirements")
