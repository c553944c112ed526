"""Base models: local folders under an id, checked and hashed once; nobody names one by path or URL."""

import re

from app.audit.service import AuditService
from app.bases.folder import BaseFolder, read_folder
from app.bases.repository import BaseRepository
from app.context import Context
from app.contracts.specs import BaseRef
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import BaseModelRow
from app.errors import Conflict, InvalidInput, NotFound
from app.identity.caller import Caller

BASE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")


class BaseService:
    def __init__(self, work: UnitOfWork, context: Context, audit: AuditService) -> None:
        self._context = context
        self._audit = audit
        self._repository = BaseRepository(work.session)

    def inspect(self, base_id: str) -> BaseFolder:
        """Read the folder of that name below `bases_dir`. Takes as long as hashing it does; needs no transaction."""
        if BASE_ID.fullmatch(base_id) is None:
            raise InvalidInput(
                f"'{base_id[:100]}' cannot be the id of a base model: take up to 96 of a-z, 0-9, '.', '_' and '-', "
                "starting with a letter or digit.",
                param="id",
            )
        return read_folder(self._context.settings.bases_dir / base_id)

    def register(self, actor: str, base_id: str, folder: BaseFolder, *, licence: str, source: str) -> BaseModelRow:
        """Enter what `inspect` found; the same files again change nothing, other files are a `Conflict`."""
        row = BaseModelRow(
            id=base_id,
            folder=base_id,
            kind=folder.kind,
            licence=licence,
            source=source,
            context_length=folder.context_length,
            parameters=folder.parameters,
            has_chat_template=folder.has_chat_template,
            files=dict(folder.files),
            weights_sha256=folder.weights_sha256,
            created_at=self._context.clock.now(),
        )
        if self._repository.add(row):
            self._audit.record(None, actor, "base.create", base_id, weights_sha256=row.weights_sha256, source=source)
            return row
        known = self.get(base_id)
        if known.weights_sha256 != row.weights_sha256:
            raise Conflict(
                f"The base model '{base_id}' is registered with other files than the folder holds now. "
                "Tuned models depend on those files: put them back, or register the new ones under another id.",
                param="id",
            )
        return known

    def get(self, base_id: str) -> BaseModelRow:
        row = self.find(base_id)
        if row is None:
            raise NotFound(
                f"The model `{base_id}` does not exist or you do not have access to it.",
                param="model",
                code="model_not_found",
            )
        return row

    def find(self, base_id: str) -> BaseModelRow | None:
        return self._repository.find(base_id)

    def all(self) -> list[BaseModelRow]:
        """Every base, oldest first."""
        return self._repository.all()

    def page(self, *, after: str | None = None, limit: int = 20) -> Page[BaseModelRow]:
        """A page of bases, newest first."""
        return self._repository.page(after=after, limit=limit)

    def ref(self, row: BaseModelRow) -> BaseRef:
        """What an engine on this machine needs to load it."""
        return BaseRef(
            id=row.id,
            path=str(self._context.settings.bases_dir / row.folder),
            weights_sha256=row.weights_sha256,
            context_length=row.context_length,
        )

    def delete(self, caller: Caller, base_id: str) -> None:
        """Take a base out of the registry; its folder stays. `Conflict` while jobs or tuned models refer to it."""
        if not self._repository.delete(self.get(base_id)):
            raise Conflict(f"The base model '{base_id}' is in use: jobs or fine-tuned models refer to it.", param="id")
        self._audit.record(None, caller.actor, "base.delete", base_id)
