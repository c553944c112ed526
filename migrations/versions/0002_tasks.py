"""tasks, training settings, kinds of bases

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    json = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column("jobs", sa.Column("task", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("training", json, nullable=True))
    op.add_column("tuned_models", sa.Column("recipe", sa.String(), server_default="chat", nullable=False))
    op.add_column("tuned_models", sa.Column("labels", json, nullable=True))
    op.add_column(
        "tuned_models", sa.Column("is_multi_label", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("tuned_models", sa.Column("tuning", sa.String(), server_default="adapter", nullable=False))
    # Until now there were decoders only, and what was validated was chat.
    op.execute("UPDATE base_models SET kind = 'decoder' WHERE kind = 'causal_lm'")
    op.execute("UPDATE jobs SET task = 'chat' WHERE spec IS NOT NULL")


def downgrade() -> None:
    op.execute("UPDATE base_models SET kind = 'causal_lm' WHERE kind = 'decoder'")
    op.drop_column("tuned_models", "tuning")
    op.drop_column("tuned_models", "is_multi_label")
    op.drop_column("tuned_models", "labels")
    op.drop_column("tuned_models", "recipe")
    op.drop_column("jobs", "training")
    op.drop_column("jobs", "task")
