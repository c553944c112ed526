"""Wire shapes of `/v1/organization/audit_logs`: OpenAI's event, and the chain's rows, head and verdict beside it."""

from typing import Any, Literal

from pydantic import BaseModel

from app.audit.chain import Head, Verdict
from app.clock import unix_seconds
from app.db.tables import AuditEvent

# Our verbs that OpenAI has a name for; the others keep our own.
_OPENAI_TYPES = {
    "key.create": "api_key.created",
    "key.update": "api_key.updated",
    "key.revoke": "api_key.deleted",
    "team.create": "project.created",
    "team.update": "project.updated",
    "team.archive": "project.archived",
    "service_account.create": "service_account.created",
    "service_account.update": "service_account.updated",
    "service_account.delete": "service_account.deleted",
    "member.create": "user.added",
    "member.update": "user.updated",
    "member.delete": "user.deleted",
    "permission.create": "checkpoint.permission.created",
    "permission.delete": "checkpoint.permission.deleted",
    "person.login": "login.succeeded",
    "person.logout": "logout.succeeded",
    "person.refuse": "login.failed",
}
_OUR_ACTIONS = {type_: action for action, type_ in _OPENAI_TYPES.items()}


class ActorKey(BaseModel):
    id: str
    type: Literal["user", "service_account"] | None = None


class ActorUser(BaseModel):
    id: str


class ActorSession(BaseModel):
    user: ActorUser


class Actor(BaseModel):
    type: Literal["api_key", "session"] | None
    api_key: ActorKey | None = None
    session: ActorSession | None = None


class AuditProject(BaseModel):
    id: str
    name: str = ""


class AuditLogObject(BaseModel):
    id: str
    object: Literal["organization.audit_log"] = "organization.audit_log"
    type: str
    effective_at: int
    actor: Actor
    actor_id: str
    project: AuditProject | None
    object_id: str
    data: dict[str, Any]
    sequence: int
    sha256: str


class AuditHeadObject(BaseModel):
    object: Literal["organization.audit_log.head"] = "organization.audit_log.head"
    team: str
    sequence: int
    sha256: str


class AuditFault(BaseModel):
    sequence: int
    kind: str
    message: str


class AuditVerdict(BaseModel):
    """What a check of `checked` rows found; go on with `after=` the head's `sequence` while `has_more`."""

    object: Literal["organization.audit_log.verdict"] = "organization.audit_log.verdict"
    team: str
    checked: int
    is_unbroken: bool
    faults: list[AuditFault]
    head: AuditHeadObject
    has_more: bool


def audit_log_object(row: AuditEvent) -> AuditLogObject:
    identity = row.actor.partition(":")[2]
    return AuditLogObject(
        id=f"audit-{row.id}",
        type=_OPENAI_TYPES.get(row.action, row.action),
        effective_at=unix_seconds(row.at),
        actor=_actor(*row.actor.split(":", 1)),
        actor_id=identity or row.actor,
        project=None if row.team_id is None else AuditProject(id=row.team_id),
        object_id=row.object_id,
        data=row.data,
        sequence=row.sequence,
        sha256=row.sha256,
    )


def _actor(kind: str, identity: str = "") -> Actor:
    if kind == "key":
        return Actor(type="api_key", api_key=ActorKey(id=identity))
    if kind == "user":
        return Actor(type="session", session=ActorSession(user=ActorUser(id=identity)))
    return Actor(type=None)


def head_object(head: Head) -> AuditHeadObject:
    return AuditHeadObject(team=head.team, sequence=head.sequence, sha256=head.sha256)


def verdict_object(verdict: Verdict, *, has_more: bool) -> AuditVerdict:
    return AuditVerdict(
        team=verdict.head.team,
        checked=verdict.checked,
        is_unbroken=not verdict.faults,
        faults=[AuditFault(**fault.__dict__) for fault in verdict.faults],
        head=head_object(verdict.head),
        has_more=has_more,
    )


def actions_of(types: list[str]) -> list[str]:
    """Our actions for types of the wire, in OpenAI's words or in ours."""
    return [_OUR_ACTIONS.get(type_, type_) for type_ in types]


def actors_of(ids: list[str]) -> list[str]:
    """The actors of the log for ids of the wire: a key's id, or an actor as the log has it."""
    return [actor for identity in ids for actor in (identity, f"key:{identity}", f"user:{identity}")]
