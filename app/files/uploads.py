"""Uploads: a file that arrives in parts, in any order, and becomes a file when its sender says so."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from app.audit.service import AuditService
from app.context import Context
from app.db.engine import UnitOfWork
from app.db.tables import File, Upload, UploadPart
from app.errors import Conflict, InvalidInput, NotFound, TooLarge
from app.files.incoming import Incoming
from app.files.names import safe_label
from app.files.purposes import Purpose, lifetime
from app.files.service import FileService
from app.files.upload_repository import UploadRepository
from app.identity.caller import Caller
from app.ids import Prefix, new_id
from app.usage.budgets import BudgetService

PART_BYTES_MAX = 64 * 1024 * 1024
_OPEN_FOR = timedelta(hours=1)
_SWEEP_ROWS = 100


@dataclass(frozen=True)
class Assembled:
    """The parts of an upload joined to one object that belongs to nobody yet."""

    file_id: str
    incoming: Incoming


class UploadService:
    def __init__(
        self, work: UnitOfWork, context: Context, files: FileService, audit: AuditService, budgets: BudgetService
    ) -> None:
        self._work = work
        self._context = context
        self._files = files
        self._audit = audit
        self._budgets = budgets
        self._repository = UploadRepository(work.session)

    def create(
        self,
        caller: Caller,
        *,
        filename: str,
        purpose: Purpose,
        total_bytes: int,
        mime_type: str,
        expires_after_seconds: int | None,
    ) -> Upload:
        """An upload that takes parts for an hour."""
        if total_bytes > self._context.settings.max_file_bytes:
            raise TooLarge(
                f"The file is larger than the {self._context.settings.max_file_bytes} bytes this server takes.",
                param="bytes",
                code="file_too_large",
            )
        lifetime(purpose, expires_after_seconds)
        now = self._context.clock.now()
        upload = Upload(
            id=new_id(Prefix.UPLOAD),
            team_id=caller.team_id,
            filename=safe_label(filename),
            purpose=purpose.value,
            mime_type=mime_type,
            bytes=total_bytes,
            status="pending",
            file_expires_after_seconds=expires_after_seconds,
            created_at=now,
            expires_at=now + _OPEN_FOR,
        )
        self._repository.add(upload)
        self._audit.record(caller.team_id, caller.actor, "upload.create", upload.id, bytes=total_bytes)
        return upload

    def begin_part(self, caller: Caller, upload_id: str) -> None:
        """Refuse early what `add_part` would refuse after all bytes came."""
        self._check_pending(self._found(self._repository.find(caller.team_id, upload_id), upload_id))

    def receive_part(self, upload_id: str) -> tuple[str, Incoming]:
        """A new part's id, and where its bytes go."""
        part_id = new_id(Prefix.PART)
        incoming = Incoming(self._context, f"uploads/{upload_id}/{part_id}", max_bytes=PART_BYTES_MAX)
        self._work.on_rollback(incoming.abort)
        return part_id, incoming

    def add_part(self, caller: Caller, upload_id: str, part_id: str, incoming: Incoming) -> UploadPart:
        """Make a received part belong to its upload."""
        upload = self._locked_pending(caller, upload_id)
        stored = incoming.finish()
        received_bytes = self._repository.received_bytes(upload_id) + stored.bytes
        if received_bytes > self._context.settings.max_file_bytes:
            raise TooLarge("The parts are together larger than a file may be.", code="file_too_large")
        self._budgets.check_storage(caller.team_id, stored.bytes)
        part = UploadPart(
            id=part_id,
            upload_id=upload.id,
            bytes=stored.bytes,
            sha256=stored.sha256,
            artifact_key=stored.key,
            created_at=self._context.clock.now(),
        )
        self._repository.add_part(part)
        return part

    def choose_parts(self, caller: Caller, upload_id: str, part_ids: list[str]) -> list[UploadPart]:
        """The parts in the order their sender gave; they must be as long together as was announced."""
        upload = self._found(self._repository.find(caller.team_id, upload_id), upload_id)
        self._check_pending(upload)
        if len(set(part_ids)) != len(part_ids):
            raise InvalidInput("A part may be named once only.", param="part_ids")
        known = self._repository.parts(upload_id)
        for part_id in part_ids:
            if part_id not in known:
                raise InvalidInput(f"No part with id '{part_id}' found in upload '{upload_id}'.", param="part_ids")
        parts = [known[part_id] for part_id in part_ids]
        total_bytes = sum(part.bytes for part in parts)
        if total_bytes != upload.bytes:
            raise InvalidInput(
                f"The upload was announced with {upload.bytes} bytes, but its parts have {total_bytes} bytes together.",
                param="part_ids",
            )
        return parts

    def assemble(self, parts: list[UploadPart], *, md5: str | None) -> Assembled:
        """Join the parts in the store. Needs no transaction; `InvalidInput` if the MD5 is another one."""
        file_id, incoming = self._files.begin()
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._chunks(parts):
            digest.update(chunk)
            if incoming.take(chunk):
                incoming.flush()
        if md5 is not None and digest.hexdigest() != md5.lower():
            raise InvalidInput(f"The joined parts have the MD5 {digest.hexdigest()}, not the one given.", param="md5")
        return Assembled(file_id, incoming)

    def complete(self, caller: Caller, upload_id: str, assembled: Assembled) -> tuple[Upload, File]:
        """The upload becomes a file. `Conflict` if it was completed or cancelled meanwhile."""
        upload = self._locked_pending(caller, upload_id)
        # First: from now on the file counts as stored, and its parts do not.
        upload.status = "completed"
        self._repository.flush()
        file = self._files.finish(
            caller.team_id,
            caller.actor,
            assembled.file_id,
            assembled.incoming,
            filename=upload.filename,
            purpose=upload.purpose,
            expires_after_seconds=upload.file_expires_after_seconds,
        )
        upload.file_id = file.id
        self._audit.record(caller.team_id, caller.actor, "upload.complete", upload.id, file_id=file.id)
        self._remove_parts_after_commit(upload_id)
        return upload, file

    def cancel(self, caller: Caller, upload_id: str) -> Upload:
        """No part is taken any more, and the parts go; cancelling again changes nothing."""
        upload = self._found(self._repository.lock(caller.team_id, upload_id), upload_id)
        if upload.status == "cancelled":
            return upload
        self._check_pending(upload)
        upload.status = "cancelled"
        self._audit.record(caller.team_id, caller.actor, "upload.cancel", upload.id)
        self._remove_parts_after_commit(upload_id)
        return upload

    def expire_due(self) -> int:
        """Mark uploads whose hour is over, and remove the parts of all that are over. For the control role."""
        over = self._repository.lock_over(_SWEEP_ROWS)
        for upload in over:
            self._context.artifacts.delete_prefix(f"uploads/{upload.id}")
            self._repository.remove_parts(upload.id)
            if upload.status == "pending":
                upload.status = "expired"
        return len(over)

    def _remove_parts_after_commit(self, upload_id: str) -> None:
        # The rows of the parts stay until the sweep, which thereby also finds what a crash leaves here.
        self._work.on_commit(lambda: self._context.artifacts.delete_prefix(f"uploads/{upload_id}"))

    def _chunks(self, parts: list[UploadPart]) -> Iterator[bytes]:
        for part in parts:
            try:
                yield from self._context.artifacts.read(part.artifact_key)
            except KeyError:
                raise Conflict("The upload was completed or cancelled meanwhile.") from None

    def _locked_pending(self, caller: Caller, upload_id: str) -> Upload:
        upload = self._found(self._repository.lock(caller.team_id, upload_id), upload_id)
        self._check_pending(upload)
        return upload

    def _check_pending(self, upload: Upload) -> None:
        is_late = upload.status == "pending" and upload.expires_at <= self._context.clock.now()
        status = "expired" if is_late else upload.status
        if status != "pending":
            raise InvalidInput(
                f"Upload '{upload.id}' is {status} and takes no more changes. Create a new upload.",
                code="upload_not_pending",
            )

    @staticmethod
    def _found(upload: Upload | None, upload_id: str) -> Upload:
        if upload is None:
            raise NotFound(f"No such Upload object: {upload_id}", param="upload_id")
        return upload
