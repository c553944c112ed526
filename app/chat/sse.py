"""Server-sent events as OpenAI's clients read them: `data:` lines, an error as data, `[DONE]` at a true end."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from app.errors import AppError
from app.logs import logger

DONE = b"data: [DONE]\n\n"
MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event(data: dict[str, Any]) -> bytes:
    """One event. Line breaks inside strings are escaped by JSON, so one line is enough."""
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def error_event(error: AppError) -> bytes:
    """What clients raise as an APIError; without it a broken stream would look like a short answer."""
    return event({"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}})


async def closed_by_done_or_error(events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """`events`, then `[DONE]`; if they break, an error event instead, and no `[DONE]`."""
    async with aclosing(events):
        try:
            async for data in events:
                yield data
        except AppError as error:
            yield error_event(error)
            return
        except Exception:  # noqa: BLE001 - the HTTP handler's edge: only the stream can still tell
            logger.exception("an answer broke in the middle of its stream")
            yield error_event(AppError("Something went wrong on our side in the middle of this answer. Please retry."))
            return
        yield DONE
