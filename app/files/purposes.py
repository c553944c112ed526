"""What a file is for, and what its purpose asks of its content."""

import json
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import PurePath

from app.errors import InvalidInput

FILE_SECONDS_MIN = 3600
FILE_SECONDS_MAX = 2_592_000
# OpenAI keeps batch inputs for 30 days unless told otherwise; every other file until it is deleted.
_DEFAULT_LIFETIME = {"batch": timedelta(days=30)}
# A first line longer than this is judged by its beginning only.
FIRST_LINE_BYTES = 1024 * 1024
# Training files that need not be JSON lines; what they hold is told when a job reads them.
_TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".conll", ".txt"})
_HINT_CHARACTERS = 4
_MAX_DIGITS = 12


class Purpose(StrEnum):
    """Purposes a client may give."""

    ASSISTANTS = "assistants"
    BATCH = "batch"
    FINE_TUNE = "fine-tune"
    VISION = "vision"
    USER_DATA = "user_data"
    EVALS = "evals"


RESULTS = "fine-tune-results"


def checked_purpose(text: str | None) -> Purpose:
    try:
        return Purpose(text or "")
    except ValueError:
        names = ", ".join(f"'{purpose}'" for purpose in Purpose)
        message = (
            "Missing required parameter: 'purpose'." if text is None else f"'{text}' is not a purpose a file can have."
        )
        raise InvalidInput(f"{message} Take one of {names}.", param="purpose") from None


def wire_purpose(purpose: str) -> str:
    """The purpose as it is shown: clients in strict mode know no `evals` in answers."""
    return Purpose.USER_DATA if purpose == Purpose.EVALS else purpose


def is_json_lines(filename: str) -> bool:
    """Whether a training file of this name must hold JSON lines."""
    return PurePath(filename).suffix.casefold() not in _TABLE_SUFFIXES


def lifetime(purpose: Purpose, expires_after_seconds: int | None) -> timedelta | None:
    if expires_after_seconds is None:
        return _DEFAULT_LIFETIME.get(purpose)
    if not FILE_SECONDS_MIN <= expires_after_seconds <= FILE_SECONDS_MAX:
        raise InvalidInput(
            f"expires_after.seconds must lie between {FILE_SECONDS_MIN} (an hour) and {FILE_SECONDS_MAX} (30 days).",
            param="expires_after.seconds",
        )
    return timedelta(seconds=expires_after_seconds)


def checked_expiry(fields: Mapping[str, str]) -> int | None:
    """Seconds from the form fields `expires_after[anchor]` and `expires_after[seconds]`; None if neither came."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidInput("expires_after.anchor must be 'created_at'.", param="expires_after.anchor")
    if seconds is None or not seconds.isascii() or not seconds.isdecimal() or len(seconds) > _MAX_DIGITS:
        raise InvalidInput("expires_after.seconds must be a whole number of seconds.", param="expires_after.seconds")
    return int(seconds)


class FirstLine:
    """Collects the first line that is not blank from a stream, for the check of training files."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._number = 1
        self._is_complete = False

    def feed(self, chunk: bytes) -> None:
        if self._is_complete:
            return
        self._buffer += chunk[: FIRST_LINE_BYTES + 1 - len(self._buffer)]
        while (end := self._buffer.find(b"\n")) >= 0:
            if self._buffer[:end].strip():
                del self._buffer[end:]
                self._is_complete = True
                return
            del self._buffer[: end + 1]
            self._number += 1
        self._is_complete = len(self._buffer) > FIRST_LINE_BYTES

    def check(self) -> None:
        """Raise `InvalidInput`, in the words clients know from OpenAI, unless the line is a JSON object."""
        line = bytes(self._buffer)
        if len(line) > FIRST_LINE_BYTES:
            is_object = line.lstrip().startswith(b"{")
        else:
            try:
                is_object = isinstance(json.loads(line.decode("utf-8")), dict)
            except (ValueError, RecursionError):
                is_object = False
        if is_object:
            return
        if not line.strip():
            hint = "the file is empty"
        else:
            start = line.decode("utf-8", errors="replace").replace("\x00", "\ufffd")[:_HINT_CHARACTERS]
            hint = f'line starts with: "{start}..."'
        raise InvalidInput(
            "Expected file to have JSONL format, where every line is a JSON dictionary. "
            f"Line {self._number} is not a dictionary (HINT: {hint})."
        )
