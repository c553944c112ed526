"""Wire shapes of API keys."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.clock import unix_seconds
from app.db.tables import ApiKey
from app.identity.policy import Permission, Role

Lifetime = Annotated[int, Field(strict=True, ge=60, le=10 * 366 * 24 * 3600)]
Name = Annotated[str, Field(min_length=1, max_length=128)]
TeamRole = Literal[Role.VIEWER, Role.TRAINER, Role.ADMIN]


class KeyCreate(BaseModel):
    name: Name
    role: TeamRole = Role.TRAINER
    permissions: list[Permission] | None = None
    """Narrower than the role; absent: all that the role has."""
    expires_after_seconds: Lifetime | None = None


class KeyObject(BaseModel):
    """A key as it can be shown at any time."""

    id: str
    object: Literal["team.api_key"] = "team.api_key"
    name: str
    role: str
    permissions: list[str] | None
    service_account_id: str | None
    hint: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None


class NewKeyObject(KeyObject):
    """A key with its text: shown once, at its creation."""

    key: str


class KeyDeleted(BaseModel):
    id: str
    object: Literal["team.api_key.deleted"] = "team.api_key.deleted"
    deleted: bool = True


def key_object(row: ApiKey) -> KeyObject:
    return KeyObject(
        id=row.id,
        name=row.name,
        role=row.role,
        permissions=row.permissions,
        service_account_id=row.service_account_id,
        hint=row.hint,
        created_at=unix_seconds(row.created_at),
        expires_at=None if row.expires_at is None else unix_seconds(row.expires_at),
        revoked_at=None if row.revoked_at is None else unix_seconds(row.revoked_at),
        last_used_at=None if row.last_used_at is None else unix_seconds(row.last_used_at),
    )


def new_key_object(row: ApiKey, text: str) -> NewKeyObject:
    return NewKeyObject(**key_object(row).model_dump(), key=text)
