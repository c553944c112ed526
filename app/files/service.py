"""Files: received as a stream, kept under a server-made key, seen by their own team only."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from app.artifacts.base import ArtifactStore, Stored
from app.audit.service import AuditService
from app.context import Context
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import File
from app.errors import InvalidInput, NotFound
from app.files.incoming import Incoming
from app.files.names import safe_label
from app.files.purposes import RESULTS, Purpose, is_json_lines, lifetime
from app.files.repository import FileRepository
from app.identity.caller import Caller
from app.ids import Prefix, new_id
from app.usage.budgets import BudgetService

_COPY_BYTES = 1024 * 1024
_SWEEP_ROWS = 200
# Longer than any upload may take.
_ABANDONED_AFTER = timedelta(hours=24)


class FileService:
    def __init__(self, work: UnitOfWork, context: Context, audit: AuditService, budgets: BudgetService) -> None:
        self._work = work
        self._context = context
        self._audit = audit
        self._budgets = budgets
        self._repository = FileRepository(work.session)

    @property
    def artifacts(self) -> ArtifactStore:
        """Where the bytes lie; for readers that check their hash."""
        return self._context.artifacts

    def begin(self) -> tuple[str, Incoming]:
        """A new file's id, and where its bytes go; they go again if this unit of work is rolled back.

        Notes the key in a short transaction of its own.
        """
        file_id = new_id(Prefix.FILE)
        incoming = Incoming(self._context, f"files/{file_id}", max_bytes=self._context.settings.max_file_bytes)
        self._work.on_rollback(incoming.abort)
        return file_id, incoming

    def finish(
        self,
        team_id: str,
        actor: str,
        file_id: str,
        incoming: Incoming,
        *,
        filename: str,
        purpose: str,
        expires_after_seconds: int | None = None,
    ) -> File:
        """Make a received file visible with this transaction."""
        if purpose == Purpose.FINE_TUNE and is_json_lines(filename):
            incoming.first_line.check()
        life = None if purpose == RESULTS else lifetime(Purpose(purpose), expires_after_seconds)
        return self._add(team_id, actor, file_id, incoming.finish(), filename=filename, purpose=purpose, life=life)

    def create_from_stream(
        self,
        team_id: str,
        actor: str,
        chunks: Iterator[bytes],
        *,
        filename: str,
        purpose: str,
        expires_after_seconds: int | None = None,
    ) -> File:
        """A file from bytes at hand; the same checks as for an upload."""
        file_id, incoming = self.begin()
        for chunk in chunks:
            if incoming.take(chunk):
                incoming.flush()
        return self.finish(
            team_id,
            actor,
            file_id,
            incoming,
            filename=filename,
            purpose=purpose,
            expires_after_seconds=expires_after_seconds,
        )

    def create_from_path(self, team_id: str, actor: str, path: Path, *, filename: str, purpose: str = RESULTS) -> File:
        """A file from a local one, such as a job's results."""
        return self.create_from_stream(team_id, actor, _chunks(path), filename=filename, purpose=purpose)

    def get(self, team_id: str, file_id: str, *, param: str | None = "id") -> File:
        """`NotFound` for absent, deleted, expired and foreign files alike."""
        file = self._repository.find(team_id, file_id)
        if file is None:
            raise NotFound(f"No such File object: {file_id}", param=param)
        return file

    def open(self, file: File) -> Iterator[bytes]:
        """The content in chunks."""
        try:
            return self._context.artifacts.read(file.artifact_key)
        except KeyError:
            raise NotFound(f"No such File object: {file.id}", param="id") from None

    def fetch(self, file: File, path: Path) -> None:
        """Copy the content to `path` and check its hash; `ValueError` if it does not match."""
        self._context.artifacts.fetch(file.artifact_key, path, sha256=file.sha256)

    def page(
        self,
        caller: Caller,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 10_000,
        ascending: bool = False,
    ) -> Page[File]:
        return self._repository.page(caller.team_id, purpose=purpose, after=after, limit=limit, ascending=ascending)

    def delete(self, caller: Caller, file_id: str) -> File:
        """Gone for everybody with this transaction; the bytes follow, at the latest with the next sweep."""
        file = self._repository.lock(caller.team_id, file_id)
        if file is None:
            raise NotFound(f"No such File object: {file_id}", param="id")
        self._repository.mark_deleted(file, self._context.clock.now())
        self._audit.record(caller.team_id, caller.actor, "file.delete", file.id, sha256=file.sha256)
        key = file.artifact_key
        self._work.on_commit(lambda: self._context.artifacts.delete(key))
        return file

    def expire_due(self) -> int:
        """Remove the bytes of deleted and expired files and of uploads that broke off. Returns how many objects.

        Called by the control role; repeats harmlessly, and several may run at once.
        """
        now = self._context.clock.now()
        due = self._repository.lock_due(_SWEEP_ROWS)
        for file in due:
            self._context.artifacts.delete(file.artifact_key)
            if file.deleted_at is None:
                self._audit.record(file.team_id, "system", "file.expire", file.id, sha256=file.sha256)
            self._repository.mark_purged(file, now)
        abandoned = self._repository.lock_abandoned(_ABANDONED_AFTER, _SWEEP_ROWS)
        for key in abandoned:
            self._context.artifacts.delete(key)
            self._repository.remove_pending(key)
        return len(due) + len(abandoned)

    def _add(
        self,
        team_id: str,
        actor: str,
        file_id: str,
        stored: Stored,
        *,
        filename: str,
        purpose: str,
        life: timedelta | None,
    ) -> File:
        if purpose != RESULTS:
            # Results are what was paid for already: they are never refused.
            self._budgets.check_storage(team_id, stored.bytes)
        now = self._context.clock.now()
        file = File(
            id=file_id,
            team_id=team_id,
            filename=safe_label(filename),
            purpose=purpose,
            bytes=stored.bytes,
            sha256=stored.sha256,
            artifact_key=stored.key,
            created_at=now,
            expires_at=None if life is None else now + life,
        )
        self._repository.add(file)
        self._audit.record(
            team_id, actor, "file.create", file.id, sha256=file.sha256, bytes=file.bytes, purpose=file.purpose
        )
        return file


def checked_filename(text: str | None) -> str:
    if text is None or not text.strip():
        raise InvalidInput("The file needs a filename. Send it in the part's Content-Disposition header.", param="file")
    return text


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(_COPY_BYTES):
            yield chunk
