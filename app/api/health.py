"""Probes for those who run the service: alive, ready, which version. Open to all: they tell nothing about a team."""

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from fastapi import APIRouter, Response
from kombu.exceptions import OperationalError as BrokerError
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.api.dependencies import ContextDep
from app.context import Context

router = APIRouter(tags=["Health"])
Part = Literal["ok", "unreachable"]


class Live(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """`broker` may be unreachable while the service is ready: Redis is the doorbell, not the truth."""

    status: Literal["ready", "unready"]
    database: Part
    artifacts: Part
    broker: Part


class Version(BaseModel):
    version: str


@router.get("/health/live")
async def get_live() -> Live:
    """The process answers."""
    return Live()


@router.get("/health/ready", responses={503: {"model": Ready}})
def get_ready(context: ContextDep, response: Response) -> Ready:
    """Database and artifact store can be reached; 503 if not."""
    database = _database(context)
    artifacts = _artifacts(context)
    is_ready = database == artifacts == "ok"
    response.status_code = 200 if is_ready else 503
    status: Literal["ready", "unready"] = "ready" if is_ready else "unready"
    return Ready(status=status, database=database, artifacts=artifacts, broker=_broker(context))


@router.get("/version")
async def get_version() -> Version:
    """The version of the service."""
    try:
        return Version(version=version("tunesmith"))
    except PackageNotFoundError:
        return Version(version="unknown")


def _database(context: Context) -> Part:
    try:
        with context.database.unit_of_work() as work:
            work.session.execute(text("SELECT 1"))
    except (OperationalError, PoolTimeout):
        return "unreachable"
    return "ok"


def _artifacts(context: Context) -> Part:
    try:
        context.artifacts.check()
    except OSError:
        return "unreachable"
    return "ok"


def _broker(context: Context) -> Part:
    try:
        context.broker.check()
    except (BrokerError, OSError):
        return "unreachable"
    return "ok"
