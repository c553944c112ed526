"""Wire shapes of models and of permissions to use them, as OpenAI's."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.clock import unix_seconds
from app.datasets.tasks import Task
from app.db.tables import CheckpointPermission
from app.registry.service import ModelEntry


class ModelObject(BaseModel):
    """`parent` and `task` are additive: the base of a tuned model, and what it does."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    parent: str | None
    task: Task | None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelObject]


class ModelDeleted(BaseModel):
    id: str
    object: Literal["model"] = "model"
    deleted: bool = True


class PermissionCreate(BaseModel):
    project_ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=100)]


class PermissionObject(BaseModel):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str


class PermissionDeleted(BaseModel):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: bool = True


def model_object(entry: ModelEntry) -> ModelObject:
    return ModelObject(
        id=entry.id, created=entry.created_at, owned_by=entry.owned_by, parent=entry.base_id, task=entry.task
    )


def permission_object(row: CheckpointPermission) -> PermissionObject:
    return PermissionObject(id=row.id, created_at=unix_seconds(row.created_at), project_id=row.team_id)
