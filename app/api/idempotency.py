"""Idempotency-Key on the wire: which POSTs are the same, and what a repeated one gets."""

import hashlib
import re

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from app.db.engine import UnitOfWork
from app.db.idempotency import Answer, Reservation, complete, forget, reserve
from app.errors import InvalidInput
from app.identity.caller import Caller

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_JSON = "application/json"


class Replay(Exception):  # noqa: N818 - not an error: it ends the request early with the answer already given
    """The answer to an earlier request with the same key."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("replayed")
        self.answer = answer

    def response(self) -> Response:
        headers = {"idempotency-replayed": "true"}
        return Response(self.answer.body, self.answer.status, headers=headers, media_type=_JSON)


def begin(request: Request, work: UnitOfWork, caller: Caller, *, body_sha256: str) -> None:
    """Reserve the request's Idempotency-Key, if it has one; raises `Replay` if it was answered before."""
    key = request.headers.get("idempotency-key")
    if key is None or request.method != "POST":
        return
    if _KEY.fullmatch(key) is None:
        raise InvalidInput("The header Idempotency-Key must have 1 to 255 printable ASCII characters.")
    fingerprint = hashlib.sha256(f"{request.method} {request.url.path}\n{body_sha256}".encode()).hexdigest()
    outcome = reserve(work.session, caller.team_id, key, fingerprint)
    if isinstance(outcome, Answer):
        raise Replay(outcome)
    outcome.is_secret = getattr(request.state, "has_secret_answer", False)
    request.state.reservation = outcome


def store(work: UnitOfWork, reservation: Reservation, response: Response) -> None:
    """Keep a JSON answer of success. Streams and downloads are not kept: their key may be used again."""
    is_kept = 200 <= response.status_code < 300 and not isinstance(response, StreamingResponse)
    if is_kept and response.media_type == _JSON:
        complete(work.session, reservation, Answer(response.status_code, bytes(response.body).decode()))
    else:
        forget(work.session, reservation)
