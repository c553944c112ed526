"""One request with its unit of work, from the caller's key to the commit: everything that asks the database.

A handler that is a plain function runs in another thread, and each trip there costs more than a query. So it makes one:
the same thread looks up the key, checks the right, runs the handler, renders the answer and commits. A handler that
only shows one row makes none: key and row come to the event loop in one answer (`app.db.look`).
"""

from abc import ABC, abstractmethod
from typing import Any

from fastapi import Request
from fastapi.security.utils import get_authorization_scheme_param
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.idempotency import begin, store
from app.api.session_cookie import session_text
from app.context import Context
from app.db.idempotency import Reservation, forget
from app.db.look import Look, MissedError, Question
from app.db.scope import team_scope
from app.errors import Forbidden, Unauthorized
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission, is_allowed


class OfExchange(ABC):
    """A parameter of a handler that comes from the exchange and not from the request.

    The edge gives it; FastAPI sees it in the signature and is spared it at each request.
    """

    @abstractmethod
    def of(self, exchange: "Exchange") -> Any:
        """The argument, after the caller was admitted."""


class Exchange:
    """One request. `permission`: what its route asks for, if anything; `question`: what it asks beside the key."""

    def __init__(self, request: Request, permission: Permission | None, question: Question[Any] | None) -> None:
        context: Context = request.app.state.context
        # Lazy: connects at the first statement.
        self.services = Services(context, context.database.open())
        self.is_finished = False
        self.caller: Caller | None = None
        """Once admitted."""
        self.is_judged = False
        """Whether the caller was asked for; who was refused once is not looked up again."""
        self.look = None if question is None else Look(question, request.path_params, context.database.looks)
        self._request = request
        self._permission = permission

    def admit(self) -> None:
        """Look up the key, check the right, and reserve the Idempotency-Key; only the first call does anything.

        `Unauthorized` or `Forbidden` for who may not ask; `Replay` for a request that was answered before. Routes that
        read their own body have no hash of it yet and call `app.api.idempotency.begin` themselves once they have.
        """
        if self._permission is None or self.caller is not None:
            return
        self.is_judged = True
        self._let_in(self.services.identity.authenticate(self._key()), self._permission)
        if self.look is not None:
            self.look.ask(self.services.work.session)
        body_sha256: str | None = getattr(self._request.state, "body_sha256", None)
        if body_sha256 is not None and self.caller is not None:
            begin(self._request, self.services.work, self.caller, body_sha256=body_sha256)

    async def admit_by_look(self, look: Look[Any]) -> None:
        """As `admit`, of a route that reads one row: key and row come in one round trip and without a thread."""
        if self._permission is None or self.caller is not None:
            return
        self.is_judged = True
        try:
            self._let_in(await self.services.identity.authenticate_by_look(self._key(), look), self._permission)
        except MissedError:
            await run_in_threadpool(self.admit)

    def _key(self) -> str:
        """The text of the caller's key or session; `Unauthorized` without one."""
        scheme, key = get_authorization_scheme_param(self._request.headers.get("authorization"))
        text = key if scheme.lower() == "bearer" and key else session_text(self._request)
        if text is None:
            raise Unauthorized(
                "You didn't provide an API key. Send it in the header 'Authorization: Bearer YOUR_KEY'.",
                code="invalid_api_key",
            )
        return text

    def _let_in(self, caller: Caller, permission: Permission) -> None:
        if not caller.may(permission):
            what = "is narrowed to other rights than" if is_allowed(caller.role, permission) else "does not include"
            raise Forbidden(
                f"Your API key has the role '{caller.role}' and {what} '{permission}'. "
                "Ask an admin of your team for a key that includes it.",
                code="insufficient_permissions",
            )
        self.caller = caller

    @property
    def is_untouched(self) -> bool:
        """Whether its end asks nobody."""
        return self.services.work.is_untouched and self._reservation() is None

    def commit(self) -> None:
        """What was done so far is in; the connection goes back, and the next statement takes another one."""
        self.services.work.commit()
        reservation = self._reservation()
        if reservation is not None:
            reservation.is_committed = True

    def finish(self, response: Response) -> None:
        """The end of a request that succeeded."""
        reservation = self._reservation()
        if reservation is not None:
            store(self.services.work, reservation, response)
        self.services.work.commit()
        self.services.work.close()
        self.is_finished = True

    def undo(self) -> None:
        """The end of a request that failed: nothing of it stays but what was committed on the way."""
        self.services.work.close()
        reservation = self._reservation()
        if reservation is not None and reservation.is_committed:
            with self.services.context.database.unit_of_work(team_scope(reservation.team_id)) as other:
                forget(other.session, reservation)

    def _reservation(self) -> Reservation | None:
        reservation: Reservation | None = getattr(self._request.state, "reservation", None)
        return reservation
