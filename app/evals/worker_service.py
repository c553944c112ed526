"""Runs as workers see them: each method is one short unit of work that the caller commits.

A worker owns a run by (run_id, fence) from a claim until it releases, completes or fails it, or until its lease runs
out unrenewed. Every write is refused with `Fenced` once that is over. The database's clock alone decides about leases.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from app.audit.service import AuditService
from app.chat.model_to_ask import ModelToAsk
from app.chat.service import ChatService, StoredQuery
from app.context import Context
from app.contracts.tasks import Queue
from app.db.engine import UnitOfWork
from app.db.tables import Eval, EvalRun
from app.errors import NotFound
from app.evals.graders.refusals import models_of
from app.evals.repository import EvalRepository
from app.evals.run_messages import AnySource, NewItem, PendingItem, RunTask, ScoredItem, StoredBytes
from app.evals.schemas import FileId, StoredCompletions, criteria_adapter, data_source_adapter
from app.evals.sources import MAX_ITEMS, from_completion
from app.evals.tally import added
from app.files.service import FileService
from app.identity.caller import Caller
from app.identity.policy import Role
from app.ids import Prefix, new_id
from app.jobs.ending import backoff_seconds
from app.jobs.fencing import Fenced
from app.jobs.worker_messages import Directive
from app.usage.ledger import UsageLedger
from app.webhooks.event_types import of_run
from app.webhooks.outbox import Outbox

_STATUS = {"passed": "pass", "failed": "fail", "errored": "error"}


class EvalWorkerService:
    """Claims, items and endings of runs."""

    def __init__(  # noqa: PLR0917 - called by the factory alone
        self,
        work: UnitOfWork,
        context: Context,
        files: FileService,
        chat: ChatService,
        audit: AuditService,
        outbox: Outbox,
        usage: UsageLedger,
    ) -> None:
        self._work = work
        self._settings = context.settings
        self._files = files
        self._chat = chat
        self._audit = audit
        self._outbox = outbox
        self._usage = usage
        self._repository = EvalRepository(work.session)

    def claim(self, owner: str) -> RunTask | None:
        """Take up the next run; None if none waits, or if the one that did has failed: the bell is rung again."""
        run = self._repository.lock_next()
        if run is None:
            return None
        if run.owner is not None:
            # Its lease ran out: whoever held it is gone.
            run.attempts += 1
            if run.attempts >= self._settings.max_attempts:
                self._give_up(run, f"nothing was heard from worker {run.owner}")
                self._work.ring(Queue.CPU)
                return None
        run.status = "in_progress"
        run.fence += 1
        run.owner = owner
        run.lease_until = self._repository.now_plus(self._settings.lease_seconds)
        run.not_before = None
        run.claimed_at = self._repository.now()
        if run.started_at is None:
            run.started_at = self._repository.now()
        self._repository.flush()
        try:
            return self._task(run)
        except NotFound as error:
            self._fail(run, "resource_missing", error.message)
        except ValidationError as error:
            fault = f"The run was written by another version of this service and cannot be read: {error.errors()[0]}"
            self._fail(run, "run_unreadable", fault)
        self._work.ring(Queue.CPU)
        return None

    def heartbeat(self, run_id: str, fence: int) -> Directive:
        """Renew the lease and learn whether the run was canceled. FENCED (no exception) if it is lost."""
        run = self._repository.lock_held(run_id, fence)
        if run is None:
            return Directive.FENCED
        run.lease_until = self._repository.now_plus(self._settings.lease_seconds)
        return Directive.CANCEL if run.status == "canceled" else Directive.CONTINUE

    def add_items(self, run_id: str, fence: int, items: Sequence[NewItem]) -> None:
        """Lay out rows; those laid out by an earlier attempt stay as they are."""
        run = self._held(run_id, fence)
        self._repository.add_items([_row(run, item) for item in items])

    def add_stored_completions(self, task: RunTask) -> int:
        """Lay out the stored completions a run asks for, oldest first; how many."""
        run = self._held(task.run_id, task.fence)
        source = task.data_source.source
        assert isinstance(source, StoredCompletions)  # noqa: S101 - what the caller has checked
        found = self._chat.stored_of_team(
            run.team_id,
            StoredQuery(
                model=source.model,
                metadata={**task.stored_metadata, **(source.metadata or {})},
                created_after=source.created_after,
                created_before=source.created_before,
                limit=min(source.limit or MAX_ITEMS, MAX_ITEMS),
            ),
        )
        items = [from_completion(place, messages, completion) for place, (messages, completion) in enumerate(found)]
        self._repository.add_items([_row(run, item) for item in items])
        return len(items)

    def finish_layout(self, run_id: str, fence: int, total: int) -> None:
        """All rows are there."""
        self._held(run_id, fence).total = total

    def pending(self, run_id: str, *, from_position: int, limit: int) -> list[PendingItem]:
        """Items that are not done, in order."""
        rows = self._repository.pending(run_id, from_position=from_position, limit=limit)
        return [PendingItem(row.id, row.position, row.item, row.given, row.fault) for row in rows]

    def record(self, run_id: str, fence: int, items: Sequence[ScoredItem]) -> None:
        """Items done. One that is done already counts once: repeating the call changes nothing."""
        run = self._held(run_id, fence)
        for item in items:
            is_new = self._repository.finish_item(
                run_id, item.id, status=_STATUS[item.outcome], sample=item.sample, results=list(item.results)
            )
            if is_new:
                run.tally = added(run.tally, item.outcome, item.by_criterion, item.usage)
                run.attempts = 0

    def complete(self, run_id: str, fence: int) -> None:
        """Every item is done. A run canceled meanwhile stays canceled. Gives up the lease."""
        run = self._held(run_id, fence)
        if run.status == "in_progress":
            self._end(run, "completed", "eval_run.complete")
        self._free(run)

    def fail(self, run_id: str, fence: int, code: str, message: str) -> None:
        """The run cannot be done; what is done stays. Gives up the lease."""
        self._fail(self._held(run_id, fence), code, message)

    def release(self, run_id: str, fence: int) -> None:
        """Let go in good order, work left or not; the next turn may be another run's."""
        run = self._held(run_id, fence)
        self._free(run)
        if run.status == "in_progress":
            self._work.ring(Queue.CPU)

    def crash(self, run_id: str, fence: int, message: str) -> None:
        """The attempt is lost: another one after a pause, or `failed` after too many without one item done."""
        run = self._held(run_id, fence)
        if run.status != "in_progress":
            self._free(run)
            return
        run.attempts += 1
        if run.attempts >= self._settings.max_attempts:
            self._give_up(run, message)
            return
        self._free(run)
        run.not_before = self._repository.now_plus(backoff_seconds(run.attempts))

    def release_previous(self, worker_id: str, incarnation: str) -> int:
        """A worker has started anew: what its earlier incarnations held can be taken up again at once; how many."""
        held = self._repository.lock_of_worker(worker_id, but_not=f"{worker_id}/{incarnation}")
        for run in held:
            self.crash(run.id, run.fence, f"worker {worker_id} was started anew")
        return len(held)

    def ring_waiting(self) -> None:
        """Ring for runs that nobody has taken up (control role)."""
        if self._repository.has_claimable():
            self._work.ring(Queue.CPU)

    def _task(self, run: EvalRun) -> RunTask:
        parent = self._repository.find_eval_of(run)
        criteria = tuple(criteria_adapter.validate_python(parent.testing_criteria))
        source = data_source_adapter.validate_python(run.data_source)
        names = set().union(*(models_of(criterion) for criterion in criteria))
        if run.model is not None:
            names.add(run.model)
        caller = Caller(team_id=run.team_id, team_slug="", key_id=run.created_by.removeprefix("key:"), role=Role.VIEWER)
        models: dict[str, ModelToAsk] = {name: self._chat.find_model(caller, name) for name in sorted(names)}
        config = parent.data_source_config
        return RunTask(
            run_id=run.id,
            fence=run.fence,
            team_id=run.team_id,
            criteria=criteria,
            data_source=source,
            item_schema=config.get("item_schema"),
            stored_metadata=_text_pairs(parent),
            file=self._file(run, source),
            is_laid_out=run.total is not None,
            models=models,
        )

    def _file(self, run: EvalRun, source: AnySource) -> StoredBytes | None:
        """None where no file is needed any more."""
        if run.total is not None or not isinstance(source.source, FileId):
            return None
        file = self._files.get(run.team_id, source.source.id, param="data_source.source.id")
        return StoredBytes(file.id, file.artifact_key)

    def _give_up(self, run: EvalRun, reason: str) -> None:
        message = f"The run was given up after {run.attempts} lost attempts. The last one ended so: {reason}"
        self._fail(run, "worker_crashed", message)

    def _fail(self, run: EvalRun, code: str, message: str) -> None:
        if run.status in {"queued", "in_progress"}:
            self._end(run, "failed", "eval_run.fail", code=code)
            run.error = {"code": code, "message": message}
        self._free(run)

    def _end(self, run: EvalRun, status: str, action: str, **data: Any) -> None:
        actor = "system" if run.owner is None else f"worker:{run.owner}"
        run.status = status
        run.finished_at = self._repository.now()
        self._audit.record(run.team_id, actor, action, run.id, fence=run.fence, **data)
        self._outbox.announce(run.team_id, of_run(status), run.id)

    def _free(self, run: EvalRun) -> None:
        """Nobody holds the run any more; what it has used is written down."""
        self._usage.evaluated(run)
        run.owner = None
        run.lease_until = None

    def _held(self, run_id: str, fence: int) -> EvalRun:
        run = self._repository.lock_held(run_id, fence)
        if run is None:
            raise Fenced(run_id, fence)
        return run


def _row(run: EvalRun, item: NewItem) -> dict[str, Any]:
    return {
        "id": new_id(Prefix.OUTPUT_ITEM),
        "run_id": run.id,
        "position": item.position,
        "item": item.item,
        "given": item.given,
        "fault": item.fault,
        "status": "pending",
    }


def _text_pairs(parent: Eval) -> dict[str, str]:
    """The metadata filter of an eval over stored completions; values that are no texts can match none."""
    return {name: str(value) for name, value in (parent.data_source_config.get("metadata") or {}).items()}


def _free(run: EvalRun) -> None:
    """Nobody holds the run any more."""
    run.owner = None
    run.lease_until = None
