"""The suite itself runs by `make openai-suite` alone; that its objects still fit today's tables is seen here."""

from sqlalchemy import delete, select

from app.db.tables import CheckpointPermission, Job
from tests.openai_suite.seed import JOB, PERMISSION, TEAM, Seeder
from tests.support.tiny_models import build_tiny_base


def test_what_openai_s_tests_name_can_be_written_and_is_mended_whatever_a_test_did(context, tmp_path):
    seeder = Seeder(context, build_tiny_base(tmp_path / "tiny", context_length=96))
    seeder.prepare()
    with context.database.unit_of_work() as work:
        work.session.execute(delete(CheckpointPermission))
        work.session.get_one(Job, JOB).status = "cancelled"
    seeder.restore()
    with context.database.unit_of_work() as work:
        owners = work.session.scalars(
            select(CheckpointPermission.owner_team_id).where(CheckpointPermission.id == PERMISSION)
        )
        assert list(owners) == [TEAM]
        assert work.session.get_one(Job, JOB).status == "queued"
