"""Tuned models: registered under a name that never changes its meaning, found, shared, downloaded, deleted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from app.audit.service import AuditService
from app.bases.service import BaseService
from app.context import Context
from app.contracts.specs import BaseRef, Recipe
from app.datasets.tasks import Task, task_of
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import BaseModelRow, CheckpointPermission, TunedModel
from app.errors import Conflict, NotFound
from app.identity.caller import Caller
from app.ids import Prefix, new_id
from app.registry.naming import checkpoint_name, is_tuned, model_name
from app.registry.repository import RegistryRepository

_SWEEP_ROWS = 200


@dataclass(frozen=True)
class AdapterLocation:
    """Where a tuned model's adapter lies in the store, and the hashes it must have."""

    archive_key: str
    archive_sha256: str
    adapter_sha256: str


@dataclass(frozen=True)
class Tuned:
    """What a model was tuned to do, and so how it is served."""

    recipe: Recipe = "chat"
    labels: tuple[str, ...] | None = None
    """Of a classification: all labels, in the order of the head's outputs."""
    is_multi_label: bool = False
    tuning: Literal["adapter", "full"] = "adapter"


@dataclass(frozen=True)
class ResolvedModel:
    """What a model id stands for: a base, or an adapter on a base."""

    id: str
    base_row: BaseModelRow
    base: BaseRef
    adapter: AdapterLocation | None
    tuned: Tuned | None = None
    """None for a base."""
    job_id: str | None = None
    """The job that made it; None for a base."""


@dataclass(frozen=True)
class ModelEntry:
    """One line of the list of models."""

    id: str
    created_at: int
    owned_by: str
    base_id: str | None
    task: Task | None
    """What a tuned model does; None for a base."""


_CHAT = Tuned()


class RegistryService:
    def __init__(self, work: UnitOfWork, context: Context, bases: BaseService, audit: AuditService) -> None:
        self._work = work
        self._context = context
        self._bases = bases
        self._audit = audit
        self._repository = RegistryRepository(work.session)

    def register(
        self,
        *,
        team_id: str,
        actor: str,
        base_id: str,
        job_id: str,
        suffix: str | None,
        step: int,
        is_final: bool,
        archive_key: str,
        archive_sha256: str,
        archive_bytes: int,
        adapter_sha256: str,
        files: Mapping[str, Any],
        tuned: Tuned = _CHAT,
    ) -> TunedModel:
        """Give a published adapter its name. A step that has one keeps it: a later attempt gets the first row."""
        known = self._repository.find_of_step(job_id, step, is_final=is_final)
        if known is not None:
            return known
        slug = self._repository.team_slug(team_id)
        name = model_name(base_id, slug, suffix) if is_final else checkpoint_name(base_id, slug, suffix, step)
        model = TunedModel(
            id=name,
            team_id=team_id,
            base_id=base_id,
            job_id=job_id,
            step=step,
            is_final=is_final,
            recipe=tuned.recipe,
            labels=None if tuned.labels is None else list(tuned.labels),
            is_multi_label=tuned.is_multi_label,
            tuning=tuned.tuning,
            adapter_sha256=adapter_sha256,
            archive_key=archive_key,
            archive_sha256=archive_sha256,
            archive_bytes=archive_bytes,
            files=dict(files),
            created_at=self._context.clock.now(),
        )
        self._repository.add(model)
        self._audit.record(team_id, actor, "model.create", name, job_id=job_id, adapter_sha256=adapter_sha256)
        return model

    def get(self, team_id: str, model_id: str) -> TunedModel:
        """A tuned model the team may use; `NotFound` for absent and foreign ones alike."""
        model = self._repository.find_usable(team_id, model_id)
        if model is None:
            raise _absent(model_id)
        return model

    def resolve(self, caller: Caller, model_id: str) -> ResolvedModel:
        """What to load for this id; `NotFound` for absent and foreign models alike."""
        if not is_tuned(model_id):
            row = self._bases.get(model_id)
            return ResolvedModel(row.id, row, self._bases.ref(row), None)
        model = self.get(caller.team_id, model_id)
        row = self._bases.get(model.base_id)
        adapter = AdapterLocation(model.archive_key, model.archive_sha256, model.adapter_sha256)
        return ResolvedModel(model.id, row, self._bases.ref(row), adapter, _tuned(model), model.job_id)

    def entries(self, caller: Caller) -> list[ModelEntry]:
        """Tuned models the caller's team may use, newest first, then the bases."""
        tuned = self._repository.list_usable(caller.team_id)
        slugs = self._repository.team_slugs({model.team_id for model in tuned})
        entries = [self._tuned_entry(model, slugs[model.team_id]) for model in tuned]
        return entries + [self._base_entry(row) for row in self._bases.all()]

    def entry(self, caller: Caller, model_id: str) -> ModelEntry:
        if not is_tuned(model_id):
            return self._base_entry(self._bases.get(model_id))
        model = self.get(caller.team_id, model_id)
        return self._tuned_entry(model, self._repository.team_slug(model.team_id))

    def open_adapter(self, caller: Caller, model_id: str) -> tuple[TunedModel, Iterator[bytes]]:
        """A tuned model and its archive in chunks; `NotFound` for a base, which has no adapter."""
        model = self.get(caller.team_id, model_id)
        try:
            return model, self._context.artifacts.read(model.archive_key)
        except KeyError:
            raise NotFound(f"The adapter of `{model_id}` is no longer in the store.", param="model") from None

    def delete(self, caller: Caller, model_id: str) -> None:
        """Gone for everybody with this transaction; the bytes follow. `Conflict` while a job continues from it."""
        model = self.owned(caller, model_id)
        job_id = self._repository.open_job_on(model_id)
        if job_id is not None:
            raise Conflict(
                f"The job {job_id} still reads `{model_id}`. Cancel it or let it finish first.", param="model"
            )
        self._repository.mark_deleted(model, self._context.clock.now())
        self._audit.record(caller.team_id, caller.actor, "model.delete", model_id, adapter_sha256=model.adapter_sha256)
        if not self._repository.is_archive_in_use(model.archive_key):
            key = model.archive_key
            self._work.on_commit(lambda: self._context.artifacts.delete(key))

    def purge_deleted(self) -> int:
        """Remove the bytes of deleted models. For the control role; repeats harmlessly. Returns how many models."""
        due = self._repository.lock_unpurged(_SWEEP_ROWS)
        for model in due:
            if not self._repository.is_archive_in_use(model.archive_key):
                self._context.artifacts.delete(model.archive_key)
            model.purged_at = self._context.clock.now()
        return len(due)

    def permit(self, caller: Caller, model_id: str, team_ids: list[str]) -> list[CheckpointPermission]:
        """Let other teams use a model. That a team exists is not checked, so that nobody can find out which do."""
        self.owned(caller, model_id)
        permissions = []
        for team_id in dict.fromkeys(team_ids):
            new = CheckpointPermission(
                id=new_id(Prefix.PERMISSION),
                model_id=model_id,
                team_id=team_id,
                owner_team_id=caller.team_id,
                created_at=self._context.clock.now(),
            )
            permission = self._repository.add_permission(new)
            if permission.id == new.id:
                self._audit.record(
                    caller.team_id, caller.actor, "permission.create", permission.id, model=model_id, to_team=team_id
                )
            permissions.append(permission)
        return permissions

    def list_permissions(
        self, caller: Caller, model_id: str, *, team_id: str | None, after: str | None, limit: int, ascending: bool
    ) -> Page[CheckpointPermission]:
        self.owned(caller, model_id)
        return self._repository.list_permissions(
            model_id, team_id=team_id, after=after, limit=limit, ascending=ascending
        )

    def revoke_permission(self, caller: Caller, model_id: str, permission_id: str) -> None:
        """Effective with this transaction."""
        self.owned(caller, model_id)
        permission = self._repository.find_permission(model_id, permission_id)
        if permission is None:
            raise NotFound(f"No permission '{permission_id}' found for `{model_id}`.", param="permission_id")
        self._repository.delete_permission(permission)
        self._audit.record(
            caller.team_id, caller.actor, "permission.delete", permission_id, model=model_id, to_team=permission.team_id
        )

    def owned(self, caller: Caller, model_id: str) -> TunedModel:
        model = self._repository.find_owned(caller.team_id, model_id)
        if model is None:
            raise _absent(model_id)
        return model

    def _base_entry(self, row: BaseModelRow) -> ModelEntry:
        return ModelEntry(row.id, int(row.created_at.timestamp()), self._context.settings.organization, None, None)

    @staticmethod
    def _tuned_entry(model: TunedModel, slug: str) -> ModelEntry:
        return ModelEntry(
            model.id, int(model.created_at.timestamp()), slug, model.base_id, task_of(_tuned(model).recipe)
        )


def _tuned(model: TunedModel) -> Tuned:
    return Tuned(
        recipe=cast("Recipe", model.recipe),
        labels=None if model.labels is None else tuple(model.labels),
        is_multi_label=model.is_multi_label,
        tuning=cast('Literal["adapter", "full"]', model.tuning),
    )


def _absent(model_id: str) -> NotFound:
    return NotFound(
        f"The model `{model_id}` does not exist or you do not have access to it.", param="model", code="model_not_found"
    )
