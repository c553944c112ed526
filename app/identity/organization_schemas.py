"""Wire shapes of `/v1/organization`, as OpenAI's administration has them; our own fields stand beside its."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.clock import unix_seconds
from app.db.tables import ApiKey, ServiceAccount, Team, TeamMember, User
from app.identity.policy import Permission, Role
from app.identity.schemas import Lifetime, Name

# OpenAI's two roles of a project, beside our three.
WireRole = Literal["viewer", "trainer", "admin", "member", "owner"]


def role_of(wire: WireRole) -> Role:
    return {"member": Role.TRAINER, "owner": Role.ADMIN}.get(wire) or Role(wire)


class ProjectCreate(BaseModel):
    name: Name
    slug: str | None = None
    """Ours: part of the names of the project's models; made from the name if absent."""


class ProjectUpdate(BaseModel):
    name: Name | None = None


class ProjectObject(BaseModel):
    id: str
    object: Literal["organization.project"] = "organization.project"
    name: str
    slug: str
    status: Literal["active", "archived"]
    created_at: int
    archived_at: int | None


class AccountCreate(BaseModel):
    name: Name
    role: WireRole = "member"
    create_service_account_only: bool | None = False
    expires_in_seconds: Lifetime | None = None


class AccountUpdate(BaseModel):
    name: Name | None = None
    role: WireRole | None = None


class AccountObject(BaseModel):
    id: str
    object: Literal["organization.project.service_account"] = "organization.project.service_account"
    name: str
    role: Literal["owner", "member"]
    team_role: str
    """Ours: viewer, trainer or admin."""
    created_at: int


class AccountKeyCreate(BaseModel):
    name: Annotated[str, Field(max_length=128)] = ""
    scopes: list[Permission] | None = None
    expires_in_seconds: Lifetime | None = None


class AccountKeyObject(BaseModel):
    """A key with its text: shown once."""

    id: str
    object: Literal["organization.project.service_account.api_key"] = "organization.project.service_account.api_key"
    name: str
    value: str
    created_at: int
    expires_at: int | None


class NewAccountObject(AccountObject):
    api_key: AccountKeyObject | None


class OwningAccount(BaseModel):
    id: str
    name: str
    role: str
    created_at: int


class KeyOwnerObject(BaseModel):
    type: Literal["user", "service_account"] | None = None
    service_account: OwningAccount | None = None


class ProjectKeyObject(BaseModel):
    id: str
    object: Literal["organization.project.api_key"] = "organization.project.api_key"
    name: str
    redacted_value: str
    role: str
    scopes: list[str] | None
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    owner: KeyOwnerObject
    owner_project_access: Literal["active", "inactive"] = "active"


class AdminKeyCreate(BaseModel):
    name: Name
    expires_in_seconds: Lifetime | None = None


class AdminKeyOwner(BaseModel):
    type: Literal["user"] = "user"
    object: Literal["organization.user"] = "organization.user"
    id: str | None
    role: Literal["owner"] = "owner"


class AdminKeyObject(BaseModel):
    id: str
    object: Literal["organization.admin_api_key"] = "organization.admin_api_key"
    name: str
    redacted_value: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    owner: AdminKeyOwner


class NewAdminKeyObject(AdminKeyObject):
    value: str


class MemberCreate(BaseModel):
    role: WireRole
    email: Annotated[str, Field(max_length=320)] | None = None
    user_id: str | None = None


class MemberUpdate(BaseModel):
    role: WireRole | None = None


class MemberObject(BaseModel):
    id: str
    object: Literal["organization.project.user"] = "organization.project.user"
    name: str
    email: str
    role: str
    added_at: int


class UserUpdate(BaseModel):
    role: Literal["owner", "reader"] | None = None


class UserProject(BaseModel):
    id: str
    name: str
    role: str


class UserProjects(BaseModel):
    object: Literal["list"] = "list"
    data: list[UserProject]


class UserObject(BaseModel):
    id: str
    object: Literal["organization.user"] = "organization.user"
    name: str
    email: str
    role: Literal["owner", "reader"]
    added_at: int
    projects: UserProjects | None = None


class Deleted(BaseModel):
    id: str
    object: str
    deleted: Literal[True] = True


def project_object(row: Team) -> ProjectObject:
    return ProjectObject(
        id=row.id,
        name=row.name,
        slug=row.slug,
        status="active" if row.archived_at is None else "archived",
        created_at=unix_seconds(row.created_at),
        archived_at=_seconds(row.archived_at),
    )


def account_object(row: ServiceAccount) -> AccountObject:
    return AccountObject(
        id=row.id,
        name=row.name,
        role="owner" if row.role == Role.ADMIN else "member",
        team_role=row.role,
        created_at=unix_seconds(row.created_at),
    )


def new_account_object(row: ServiceAccount, key: tuple[ApiKey, str] | None) -> NewAccountObject:
    return NewAccountObject(
        **account_object(row).model_dump(), api_key=None if key is None else account_key_object(*key)
    )


def account_key_object(row: ApiKey, text: str) -> AccountKeyObject:
    return AccountKeyObject(
        id=row.id,
        name=row.name,
        value=text,
        created_at=unix_seconds(row.created_at),
        expires_at=_seconds(row.expires_at),
    )


def project_key_object(row: ApiKey, accounts: Mapping[str, ServiceAccount]) -> ProjectKeyObject:
    account = accounts.get(row.service_account_id or "")
    owner = KeyOwnerObject()
    if account is not None:
        owning = OwningAccount(
            id=account.id, name=account.name, role=account.role, created_at=unix_seconds(account.created_at)
        )
        owner = KeyOwnerObject(type="service_account", service_account=owning)
    return ProjectKeyObject(
        id=row.id,
        name=row.name,
        redacted_value=row.hint,
        role=row.role,
        scopes=row.permissions,
        created_at=unix_seconds(row.created_at),
        expires_at=_seconds(row.expires_at),
        last_used_at=_seconds(row.last_used_at),
        owner=owner,
    )


def admin_key_object(row: ApiKey) -> AdminKeyObject:
    return AdminKeyObject(
        id=row.id,
        name=row.name,
        redacted_value=row.hint,
        created_at=unix_seconds(row.created_at),
        expires_at=_seconds(row.expires_at),
        last_used_at=_seconds(row.last_used_at),
        owner=AdminKeyOwner(id=row.user_id),
    )


def new_admin_key_object(row: ApiKey, text: str) -> NewAdminKeyObject:
    return NewAdminKeyObject(**admin_key_object(row).model_dump(), value=text)


def member_object(member: TeamMember, user: User) -> MemberObject:
    return MemberObject(
        id=user.id, name=user.name, email=user.email, role=member.role, added_at=unix_seconds(member.added_at)
    )


def user_object(row: User, teams: Sequence[tuple[Team, str]] | None = None) -> UserObject:
    projects = None
    if teams is not None:
        projects = UserProjects(data=[UserProject(id=team.id, name=team.name, role=role) for team, role in teams])
    return UserObject(
        id=row.id,
        name=row.name,
        email=row.email,
        role="owner" if row.is_operator else "reader",
        added_at=unix_seconds(row.created_at),
        projects=projects,
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else unix_seconds(moment)
