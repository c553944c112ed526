"""Logging: one line an event, with the request and job it belongs to."""

import contextvars
import logging
import sys

logger = logging.getLogger("tunesmith")

_bound: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("log_fields", default=None)


def bind(**fields: str) -> None:
    """Add fields (request_id, team_id, job_id) to every later line of this task or thread."""
    _bound.set({**(_bound.get() or {}), **fields})


class _Fields(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        fields = _bound.get() or {}
        record.fields = "".join(f" {name}={value}" for name, value in fields.items())
        return True


def configure(process: str) -> None:
    """Send our lines to stderr as `time level process message fields`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Fields())
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {process} %(message)s%(fields)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("httpx", "alembic.runtime.migration", "kombu", "celery.redirected"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
