"""Idempotency-Key in the database: one row a key, inserted in the transaction that does the work.

The unique index decides between two requests with one key: the second waits for the first, then sees its answer.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from sqlalchemy import CursorResult, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.db.tables import IdempotencyKey
from app.errors import Conflict

# How long a second request waits for the first one with its key.
_WAIT_SECONDS = 5
# A committed reservation without an answer belongs to a request that is still working, or to a process that died.
_ABANDONED_AFTER = timedelta(minutes=15)
KEEP_FOR = timedelta(hours=24)


@dataclass
class Reservation:
    """The claim of one request on its key, until the request ends."""

    team_id: str
    key: str
    fingerprint: str
    is_committed: bool = False
    is_secret: bool = False


@dataclass(frozen=True)
class Answer:
    """What the first request with this key was answered."""

    status: int
    body: str


class KeyInUse(Conflict):
    """The first request with this key is still at work; asking again later is right."""


def reserve(session: Session, team_id: str, key: str, fingerprint: str) -> Reservation | Answer:
    """Own the key, or get the answer already given. `Conflict` if the key came with another request before."""
    if _insert(session, team_id, key, fingerprint):
        return Reservation(team_id, key, fingerprint)
    statement = select(IdempotencyKey).where(IdempotencyKey.team_id == team_id, IdempotencyKey.key == key)
    row = session.scalars(statement.with_for_update()).one_or_none()
    if row is None:
        raise KeyInUse("Another request with this Idempotency-Key has just ended. Send the request again.")
    if row.fingerprint != fingerprint:
        raise Conflict(
            "This Idempotency-Key was used before with a different request. Take a new key for a new request.",
            code="idempotency_key_reused",
        )
    if row.status is None:
        now = session.scalar(select(func.clock_timestamp()))
        if now is None or row.created_at > now - _ABANDONED_AFTER:
            raise _in_use()
        row.created_at = now
        session.flush()
        return Reservation(team_id, key, fingerprint)
    if row.response is None:
        raise Conflict(
            "This request was already carried out, and its answer held a secret that is not kept. "
            "Look at the object it made, or use a new Idempotency-Key to make another one.",
            code="idempotency_answer_not_kept",
        )
    return Answer(row.status, str(row.response["body"]))


def complete(session: Session, reservation: Reservation, answer: Answer) -> None:
    """Keep the answer for the next request with this key (a secret one: only that it was given)."""
    statement = update(IdempotencyKey).where(
        IdempotencyKey.team_id == reservation.team_id, IdempotencyKey.key == reservation.key
    )
    response = None if reservation.is_secret else {"body": answer.body}
    session.execute(statement.values(status=answer.status, response=response))


def forget(session: Session, reservation: Reservation) -> None:
    """Let the key be used again: the request failed, or its answer cannot be kept."""
    session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.team_id == reservation.team_id,
            IdempotencyKey.key == reservation.key,
            IdempotencyKey.status.is_(None),
        )
    )


def forget_old(session: Session) -> int:
    """Remove keys older than `KEEP_FOR`; called by the control role. Returns how many."""
    oldest = func.clock_timestamp() - KEEP_FOR
    result = cast(
        "CursorResult[tuple[()]]", session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < oldest))
    )
    return result.rowcount


def _insert(session: Session, team_id: str, key: str, fingerprint: str) -> bool:
    session.execute(text(f"SET LOCAL lock_timeout = '{_WAIT_SECONDS}s'"))
    values = {"team_id": team_id, "key": key, "fingerprint": fingerprint}
    statement = insert(IdempotencyKey).values(**values).on_conflict_do_nothing().returning(IdempotencyKey.key)
    try:
        inserted = session.scalar(statement) is not None
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise _in_use() from None
        raise
    session.execute(text("SET LOCAL lock_timeout = DEFAULT"))
    return inserted


def _in_use() -> KeyInUse:
    return KeyInUse(
        "The first request with this Idempotency-Key is still being worked on. Send the request again in a moment.",
        code="idempotency_key_in_use",
    )


_LOCK_NOT_AVAILABLE = "55P03"
