"""All SQL of tuned models and of the permissions to use them."""

from datetime import datetime

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.keyset import Page, fetch_page
from app.db.scope import across_teams
from app.db.tables import CheckpointPermission, Job, Team, TunedModel


class RegistryRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def team_slug(self, team_id: str) -> str:
        with across_teams(self._session):
            return self._session.get_one(Team, team_id).slug

    def team_slugs(self, team_ids: set[str]) -> dict[str, str]:
        # Other teams' models can be used, and are shown with their owners.
        with across_teams(self._session):
            rows = self._session.execute(select(Team.id, Team.slug).where(Team.id.in_(team_ids))).all()
        return {team_id: slug for team_id, slug in rows}  # noqa: C416 - rows are not pairs to the type checker

    def add(self, model: TunedModel) -> None:
        self._session.add(model)
        self._session.flush()

    def find_of_step(self, job_id: str, step: int, *, is_final: bool) -> TunedModel | None:
        statement = select(TunedModel).where(
            TunedModel.job_id == job_id, TunedModel.step == step, TunedModel.is_final.is_(is_final)
        )
        return self._session.scalars(statement).one_or_none()

    def find_usable(self, team_id: str, model_id: str) -> TunedModel | None:
        """A model of the team, or one another team lets it use."""
        statement = select(TunedModel).where(TunedModel.id == model_id, *_usable(team_id))
        return self._session.scalars(statement).one_or_none()

    def find_owned(self, team_id: str, model_id: str) -> TunedModel | None:
        statement = select(TunedModel).where(
            TunedModel.id == model_id, TunedModel.team_id == team_id, TunedModel.deleted_at.is_(None)
        )
        return self._session.scalars(statement).one_or_none()

    def list_usable(self, team_id: str) -> list[TunedModel]:
        statement = select(TunedModel).where(*_usable(team_id)).order_by(TunedModel.created_at.desc(), TunedModel.id)
        return list(self._session.scalars(statement))

    def open_job_on(self, model_id: str) -> str | None:
        """A job that still has to read this model's adapter."""
        is_open = Job.status.in_(("validating_files", "queued", "running", "paused"))
        reads = or_(Job.parent_model_id == model_id, Job.against_model_id == model_id)
        # Jobs of other teams that may use the model too.
        with across_teams(self._session):
            return self._session.scalar(select(Job.id).where(reads, is_open).limit(1))

    def is_archive_in_use(self, archive_key: str) -> bool:
        """Whether a model that is not deleted has its bytes there: a job's result may be one of its checkpoints too."""
        statement = select(TunedModel.id).where(TunedModel.archive_key == archive_key, TunedModel.deleted_at.is_(None))
        return self._session.scalar(statement.limit(1)) is not None

    def mark_deleted(self, model: TunedModel, moment: datetime) -> None:
        model.deleted_at = moment
        self._session.flush()

    def lock_unpurged(self, limit: int) -> list[TunedModel]:
        statement = select(TunedModel).where(TunedModel.deleted_at.is_not(None), TunedModel.purged_at.is_(None))
        return list(self._session.scalars(statement.limit(limit).with_for_update(skip_locked=True)))

    def add_permission(self, permission: CheckpointPermission) -> CheckpointPermission:
        """The permission, or the one already there for this team."""
        values = {
            "id": permission.id,
            "model_id": permission.model_id,
            "team_id": permission.team_id,
            "owner_team_id": permission.owner_team_id,
            "created_at": permission.created_at,
        }
        statement = insert(CheckpointPermission).values(**values).on_conflict_do_nothing()
        self._session.execute(statement)
        found = select(CheckpointPermission).where(
            CheckpointPermission.model_id == permission.model_id, CheckpointPermission.team_id == permission.team_id
        )
        return self._session.scalars(found).one()

    def list_permissions(
        self, model_id: str, *, team_id: str | None, after: str | None, limit: int, ascending: bool
    ) -> Page[CheckpointPermission]:
        return fetch_page(
            self._session,
            CheckpointPermission,
            order_by=[CheckpointPermission.created_at, CheckpointPermission.id],
            identity=CheckpointPermission.id,
            scope=[CheckpointPermission.model_id == model_id],
            where=[] if team_id is None else [CheckpointPermission.team_id == team_id],
            after=after,
            limit=limit,
            ascending=ascending,
        )

    def find_permission(self, model_id: str, permission_id: str) -> CheckpointPermission | None:
        statement = select(CheckpointPermission).where(
            CheckpointPermission.id == permission_id, CheckpointPermission.model_id == model_id
        )
        return self._session.scalars(statement).one_or_none()

    def delete_permission(self, permission: CheckpointPermission) -> None:
        self._session.delete(permission)
        self._session.flush()


def _usable(team_id: str) -> list[ColumnElement[bool]]:
    permitted = select(CheckpointPermission.model_id).where(CheckpointPermission.team_id == team_id)
    return [TunedModel.deleted_at.is_(None), or_(TunedModel.team_id == team_id, TunedModel.id.in_(permitted))]
