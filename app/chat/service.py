"""The verbs of chat: find the model that shall answer, keep and show stored completions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from app.bases.kinds import Kind
from app.bases.service import BaseService
from app.chat.adapter_cache import AdapterArchive
from app.chat.model_to_ask import ModelToAsk
from app.chat.repository import StoredCompletionRepository
from app.context import Context
from app.db.engine import UnitOfWork
from app.db.tables.stored_completions import StoredCompletion
from app.errors import NotFound
from app.identity.caller import Caller
from app.registry.service import RegistryService, Tuned

Wire = dict[str, Any]


@dataclass(frozen=True)
class StoredQuery:
    """Which stored completions are meant; times are Unix seconds, both inclusive."""

    model: str | None
    metadata: Mapping[str, str]
    created_after: int | None
    created_before: int | None
    limit: int


class ChatService:
    """Over one unit of work; generation itself happens outside of it, in `routes`."""

    def __init__(self, work: UnitOfWork, context: Context, bases: BaseService, registry: RegistryService) -> None:
        self._context = context
        self._bases = bases
        self._registry = registry
        self._stored = StoredCompletionRepository(work.session)

    def find_model(self, caller: Caller, model_id: str) -> ModelToAsk:
        """`NotFound` for what does not exist or belongs to another team."""
        found = self._registry.resolve(caller, model_id)
        adapter = found.adapter
        archive = (
            AdapterArchive(
                model_id=model_id,
                key=adapter.archive_key,
                archive_sha256=adapter.archive_sha256,
                weights_sha256=adapter.adapter_sha256,
            )
            if adapter is not None
            else None
        )
        base = found.base_row
        return ModelToAsk(
            id=model_id,
            base=found.base,
            kind=cast("Kind", base.kind),
            has_chat_template=base.has_chat_template,
            archive=archive,
            tuned=found.tuned or Tuned(),
        )

    def store(self, caller: Caller, messages: Sequence[Wire], completion: Wire) -> None:
        """Keep an answer the caller asked to keep."""
        self._stored.add(
            StoredCompletion(
                id=completion["id"],
                team_id=caller.team_id,
                model=completion["model"],
                messages={"messages": list(messages)},
                completion={name: value for name, value in completion.items() if name != "metadata"},
                user_metadata=completion.get("metadata"),
            )
        )

    def stored(self, caller: Caller, completion_id: str) -> Wire:
        return _wire(self._row(caller, completion_id))

    def stored_messages(self, caller: Caller, completion_id: str) -> list[Wire]:
        """The messages of the request, each with an id of its own."""
        row = self._row(caller, completion_id)
        return [_message_wire(row.id, place, message) for place, message in enumerate(row.messages["messages"])]

    def stored_page(
        self,
        caller: Caller,
        *,
        model: str | None,
        metadata: Mapping[str, str],
        after: str | None,
        limit: int,
        ascending: bool,
    ) -> tuple[list[Wire], bool]:
        """Up to `limit` stored completions behind `after`, and whether there are more."""
        page = self._stored.page(
            caller.team_id, model=model, metadata=metadata, after=after, limit=limit, ascending=ascending
        )
        return [_wire(row) for row in page.rows], page.has_more

    def stored_of_team(self, team_id: str, query: StoredQuery) -> list[tuple[list[Wire], Wire]]:
        """The messages and the completion of each stored answer that is meant, oldest first."""
        rows = self._stored.between(
            team_id,
            model=query.model,
            metadata=query.metadata,
            created_after=query.created_after,
            created_before=query.created_before,
            limit=query.limit,
        )
        return [(row.messages["messages"], _wire(row)) for row in rows]

    def set_metadata(self, caller: Caller, completion_id: str, metadata: dict[str, str] | None) -> Wire:
        row = self._row(caller, completion_id, lock=True)
        row.user_metadata = metadata
        return _wire(row)

    def delete_stored(self, caller: Caller, completion_id: str) -> None:
        if not self._stored.delete(caller.team_id, completion_id):
            raise _absent(completion_id)

    def _row(self, caller: Caller, completion_id: str, *, lock: bool = False) -> StoredCompletion:
        row = self._stored.get(caller.team_id, completion_id, lock=lock)
        if row is None:
            raise _absent(completion_id)
        return row


def _wire(row: StoredCompletion) -> Wire:
    return row.completion | {"metadata": row.user_metadata or {}}


def _message_wire(completion_id: str, place: int, message: Wire) -> Wire:
    """A message as stored; text parts are shown in `content_parts` as well."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    text = "".join(str(part.get("text", "")) for part in parts) if parts is not None else content
    return (
        {"refusal": None}
        | message
        | {
            "id": f"{completion_id}-{place}",
            "content": text,
            "content_parts": parts,
        }
    )


def _absent(completion_id: str) -> NotFound:
    return NotFound(
        f"There is no stored completion '{completion_id}' in your team. Only answers asked for with 'store': true "
        "are kept.",
        code="not_found",
        param="completion_id",
    )
