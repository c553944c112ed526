"""How far a caller sees: an operator all teams, everybody else the own one (decision 0010)."""

from contextlib import AbstractContextManager, nullcontext

from sqlalchemy.orm import Session

from app.db.scope import across_teams
from app.identity.caller import Caller


def within_reach(session: Session, caller: Caller) -> AbstractContextManager[None]:
    """Inside the block the rows of all teams can be reached if the caller is an operator."""
    return across_teams(session) if caller.is_operator else nullcontext()
