"""Wire shapes of logging in."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.clock import unix_seconds
from app.db.tables import ApiKey, User
from app.identity.admission import Place

Secret = Annotated[str, Field(min_length=43, max_length=128, pattern=r"^[A-Za-z0-9_-]+$")]


class TokenCreate(BaseModel):
    """What the command line redeems: the code that came to its port, and the secret that it began with."""

    code: Secret
    verifier: Secret


class TokenObject(BaseModel):
    object: Literal["session.token"] = "session.token"
    token: str
    expires_at: int


class SessionUser(BaseModel):
    id: str
    email: str
    name: str


class SessionTeam(BaseModel):
    id: str
    slug: str
    name: str
    role: str


class SessionObject(BaseModel):
    """A log-in: who, in which team and as what, until when."""

    id: str
    object: Literal["session"] = "session"
    user: SessionUser
    team_id: str
    role: str
    created_at: int
    expires_at: int
    teams: list[SessionTeam]


class SessionEnded(BaseModel):
    id: str
    object: Literal["session.deleted"] = "session.deleted"
    deleted: Literal[True] = True


def token_object(row: ApiKey, text: str) -> TokenObject:
    return TokenObject(token=text, expires_at=_end(row))


def session_object(row: ApiKey, user: User, places: Sequence[Place]) -> SessionObject:
    return SessionObject(
        id=row.id,
        user=SessionUser(id=user.id, email=user.email, name=user.name),
        team_id=row.team_id,
        role=row.role,
        created_at=unix_seconds(row.created_at),
        expires_at=_end(row),
        teams=[SessionTeam(id=place.team_id, slug=place.slug, name=place.name, role=place.role) for place in places],
    )


def _end(row: ApiKey) -> int:
    if row.expires_at is None:
        raise RuntimeError("a session always ends")
    return unix_seconds(row.expires_at)
