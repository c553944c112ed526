"""usage: what each team used in each month, counted as the lines of the ledger are written

Revision: 0014
"""

import sqlalchemy as sa
from alembic import op

from migrations.row_security import grant, protect

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# A line is shared out over the months (UTC) that its interval touches, by time, as reports do. Nearly all lie in one.
_COUNT = """
WITH line AS (
    SELECT team_id, kind, quantity, cost, started_at AT TIME ZONE 'UTC' AS begins, ended_at AT TIME ZONE 'UTC' AS ends,
           date_trunc('month', started_at AT TIME ZONE 'UTC') AS first,
           date_trunc('month', greatest(started_at, ended_at - interval '1 microsecond') AT TIME ZONE 'UTC') AS last
    FROM {lines}
), part AS (
    SELECT team_id, kind, first AS month, sum(quantity) AS quantity, sum(cost) AS cost
    FROM line WHERE first = last GROUP BY team_id, kind, first
    UNION ALL
    SELECT team_id, kind, month, quantity * share, cost * share
    FROM line
    CROSS JOIN LATERAL generate_series(first, last, interval '1 month') AS month
    CROSS JOIN LATERAL (
        SELECT extract(epoch FROM least(ends, month + interval '1 month') - greatest(begins, month))
               / extract(epoch FROM ends - begins) AS share
    ) AS shared
    WHERE first < last
)
INSERT INTO usage_months AS counted (team_id, month, kind, quantity, cost)
SELECT team_id, month::date, kind, sum(quantity), sum(cost)
FROM part GROUP BY team_id, month, kind ORDER BY team_id, month, kind
ON CONFLICT (team_id, month, kind) DO UPDATE
SET quantity = counted.quantity + excluded.quantity, cost = counted.cost + excluded.cost
"""
# In the database, so that workers of the release before count too (decision 0015). It acts as the owner: at the commit
# the writer's role and team may be others than when the line was written, and nobody else may touch a count.
_FUNCTION = f"""
CREATE FUNCTION usage_records_count() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    {_COUNT.format(lines="(SELECT NEW.*) AS added")};
    RETURN NULL;
END
$$
"""
# Deferred to the commit: the rows of a team's month are locked for that moment only, after all else is done. A worker
# that stands still in the middle of its transaction holds up nobody's count.
_TRIGGER = """
CREATE CONSTRAINT TRIGGER usage_records_are_counted AFTER INSERT ON usage_records DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION usage_records_count()
"""


def upgrade() -> None:
    op.create_table(
        "usage_months",
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("cost", sa.Numeric(24, 10), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_usage_months_team_id_teams")),
        sa.PrimaryKeyConstraint("team_id", "month", "kind", name=op.f("pk_usage_months")),
    )
    protect(op.get_bind(), "usage_months")
    grant(op.get_bind(), "usage_months", api_rights="SELECT", worker_rights="SELECT")
    op.execute(_FUNCTION)
    # Nobody adds a line from here to the end of this migration, so that each is counted once: about three seconds for a
    # million lines, in which the ends of leases wait, and nothing else does.
    op.execute(_TRIGGER)
    op.execute(_COUNT.format(lines="usage_records"))


def downgrade() -> None:
    op.execute("DROP TRIGGER usage_records_are_counted ON usage_records")
    op.execute("DROP FUNCTION usage_records_count()")
    op.drop_table("usage_months")
