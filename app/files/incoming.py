"""Bytes on their way into the store: limited, hashed, and never orphaned.

The key is noted in `pending_artifacts` before the first byte. It leaves that table in the transaction that makes the
owner visible, or when the bytes are removed; what a crash leaves there is swept by the control role.
"""

from contextlib import suppress

from sqlalchemy.exc import OperationalError

from app.artifacts.base import ArtifactWriter, Stored
from app.context import Context
from app.errors import TooLarge
from app.files.purposes import FirstLine
from app.files.repository import FileRepository

_BUFFER_BYTES = 1024 * 1024


class Incoming:
    """One object being received. Ends with `finish` or `abort`; all but `take` block and belong in a thread."""

    def __init__(self, context: Context, key: str, *, max_bytes: int) -> None:
        self._context = context
        self._key = key
        self._max_bytes = max_bytes
        self._received_bytes = 0
        self._buffer = bytearray()
        self._stored: Stored | None = None
        self.first_line = FirstLine()
        with context.database.unit_of_work() as work:
            FileRepository(work.session).add_pending(key)
        self._writer: ArtifactWriter = context.artifacts.open_writer(key)

    def take(self, chunk: bytes) -> bool:
        """Take some bytes into memory; True when `flush` is due. `TooLarge` beyond the limit."""
        self._received_bytes += len(chunk)
        if self._received_bytes > self._max_bytes:
            raise TooLarge(
                f"The file is larger than the {self._max_bytes} bytes this server takes.", code="file_too_large"
            )
        self.first_line.feed(chunk)
        self._buffer += chunk
        return len(self._buffer) >= _BUFFER_BYTES

    def flush(self) -> None:
        """Hand what was taken to the store."""
        if self._buffer:
            self._writer.write(bytes(self._buffer))
            self._buffer.clear()

    def finish(self) -> Stored:
        """The object is whole in the store, but belongs to nobody until a row with its key is committed."""
        if self._stored is None:
            self.flush()
            self._stored = self._writer.commit()
        return self._stored

    def abort(self) -> None:
        """Remove every byte. Also right after `finish`, when the row could not be committed."""
        self._writer.abort()
        self._context.artifacts.delete(self._key)
        # Without a database the note stays, and the sweep removes it with the same effect.
        with suppress(OperationalError), self._context.database.unit_of_work() as work:
            FileRepository(work.session).remove_pending(self._key)
