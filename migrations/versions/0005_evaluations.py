"""evaluations on demand: jobs that score a model, and train none; expectations of a model's answers

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("purpose", sa.String(), server_default="training", nullable=False))
    op.add_column("jobs", sa.Column("against_model_id", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("against_adapter", postgresql.JSONB(), nullable=True))
    op.add_column("jobs", sa.Column("expectations", postgresql.JSONB(), nullable=True))
    op.create_foreign_key(
        op.f("fk_jobs_against_model_id_tuned_models"), "jobs", "tuned_models", ["against_model_id"], ["id"]
    )
    op.create_check_constraint(op.f("ck_jobs_purpose"), "jobs", "purpose IN ('training', 'evaluation')")


def downgrade() -> None:
    op.execute("DELETE FROM job_events WHERE job_id IN (SELECT id FROM jobs WHERE purpose = 'evaluation')")
    op.execute("DELETE FROM jobs WHERE purpose = 'evaluation'")
    op.drop_constraint(op.f("ck_jobs_purpose"), "jobs")
    op.drop_constraint(op.f("fk_jobs_against_model_id_tuned_models"), "jobs")
    op.drop_column("jobs", "against_adapter")
    op.drop_column("jobs", "against_model_id")
    op.drop_column("jobs", "purpose")
    op.drop_column("jobs", "expectations")
