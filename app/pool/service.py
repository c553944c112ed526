"""The shared GPUs: who is there, which job is next, and which bells to ring again."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.audit.service import AuditService
from app.context import Context
from app.contracts.tasks import Queue
from app.db.engine import UnitOfWork
from app.db.scope import across_teams
from app.db.tables import Job
from app.errors import NotFound
from app.identity.caller import Caller
from app.identity.policy import Permission, is_allowed
from app.pool.fairshare import HIGH, Choice, choose
from app.pool.overview import PoolView, WorkerView, look
from app.pool.preemption import Preemption, RunningJob, is_claimants, victims
from app.pool.repository import PoolRepository
from app.pool.riders_repository import RidersRepository
from app.pool.riding import Seats, may_join, takes_company
from app.pool.snapshot import Card, Snapshot, fits
from app.pool.snapshot_repository import QueueView, SnapshotRows

# A worker not heard of for so long is not counted on.
_SILENT_SECONDS = 600.0


@dataclass(frozen=True)
class Claim:
    """A lease just taken: every later write of the holder names (job_id, fence)."""

    job_id: str
    fence: int


@dataclass(frozen=True)
class WorkerCard:
    """A GPU worker as it introduces itself. `worker_id` is stable (host and slot), `incarnation` new at each start."""

    worker_id: str
    incarnation: str
    host: str
    device: dict[str, Any]
    gpus: int = 1
    memory_bytes: int | None = None
    compute_capability: int | None = None
    bases: tuple[str, ...] | None = None
    """Folders of bases on its disk; None: not said, and it is trusted with every base."""

    @property
    def owner(self) -> str:
        """How leases name the holder."""
        return f"{self.worker_id}/{self.incarnation}"


class PoolService:
    """Claims and workers."""

    def __init__(self, work: UnitOfWork, context: Context, audit: AuditService) -> None:
        self._work = work
        self._audit = audit
        self._settings = context.settings
        self._recent = context.recent
        self._repository = PoolRepository(work.session)
        self._riders = RidersRepository(work.session)
        self._rows = SnapshotRows(work.session, alive_seconds=context.settings.lease_seconds)

    def claim(self, owner: str, *, from_status: str, to_status: str) -> Claim | None:
        """Lease the job that fair share picks among those of `from_status`; None if none can be claimed.

        Claims are serialised until the caller's commit, so two workers never weigh the same snapshot. A worker that is
        registered gets what fits it, and nothing while it is drained; one that is not is trusted with every job.
        """
        self._repository.lock_claims()
        worker = self._rows.worker(owner)
        card: Card | None = None
        if worker is not None:
            row, card = worker
            if row.drain is not None:
                return None
        choice = choose(self._rows.for_claim(from_status, card))
        return None if choice is None else self._take(choice, owner, from_status=from_status, to_status=to_status)

    def claim_companion(self, owner: str, *, from_status: str, to_status: str) -> Claim | None:
        """As `claim`, for a worker that runs something: the job that it would be given next, if that may ride along.

        None where it may not: then the GPU goes to it when it is free, and nobody else gets in between. None, too,
        where an idle worker could take it, which would train it faster.
        """
        seats = Seats(self._settings.seats_per_worker, self._settings.seat_max_seconds)
        riders = self._riders.of_owner(owner)
        if not takes_company(riders, seats):
            return None
        base_ids = self._riders.base_ids(riders[0].weights_sha256)
        if not self._riders.is_awaited(base_ids):
            return None
        self._repository.lock_claims()
        worker = self._rows.worker(owner)
        riders = self._riders.of_owner(owner)
        if worker is None or worker[0].drain is not None or not takes_company(riders, seats):
            return None
        card = replace(worker[1], resident=base_ids)
        teams = {rider.team_id for rider in riders}
        choice = choose(self._rows.for_claim(from_status, card, leaving=teams))
        offered = replace(seats, memory_bytes=card.memory_bytes)
        if choice is None or not may_join(self._riders.of_job(choice.job.job_id), riders, offered):
            return None
        if any(fits(choice.job, idle) for idle in self._rows.idle_cards()):
            return None
        return self._take(choice, owner, from_status=from_status, to_status=to_status)

    def _take(self, choice: Choice, owner: str, *, from_status: str, to_status: str) -> Claim | None:
        fence = self._repository.take(
            choice.job.job_id,
            owner,
            from_status=from_status,
            to_status=to_status,
            lease_seconds=self._settings.lease_seconds,
        )
        if fence is None:
            # Its owner cancelled or paused it since the snapshot; the next ring tries again.
            return None
        self._repository.count_overtaken([job.job_id for job in choice.overtaken])
        return Claim(choice.job.job_id, fence)

    def riding_beside(self, job: Job) -> int:
        """How many other jobs the process of this one's holder works for, of any team."""
        if job.owner is None:
            return 0
        with across_teams(self._work.session):
            return max(0, self._riders.beside(job.owner) - 1)

    def snapshot_around(self, job: Job, *, may_be_recent: bool = False) -> Snapshot:
        """Jobs that wait for a GPU, as far as they say where this one stands.

        `may_be_recent`: those of other requests a moment ago, if the job waited already.
        """
        if may_be_recent:
            queue = self._recent.get("queue", self._queue, is_fit=lambda found: found.knows(job))
        else:
            queue = self._queue()
        return self._rows.for_explanation(job, queue)

    def _queue(self) -> QueueView:
        with across_teams(self._work.session):
            return self._rows.queue()

    def look_ahead(self, depth: int) -> tuple[Snapshot, tuple[RunningJob, ...], tuple[Card, ...], datetime]:
        """The first jobs of each team, what runs, which workers are free, and the database's time."""
        with across_teams(self._work.session):
            _, running, free = self._rows.for_preemption()
            return self._rows.front(depth), running, free, self._rows.now()

    def view(self, caller: Caller) -> PoolView:
        """The pool as this caller may see it."""
        is_operator = is_allowed(caller.role, Permission.POOL_WRITE)
        alive_seconds = self._settings.lease_seconds
        with across_teams(self._work.session):
            return look(self._repository, self._rows, caller.team_id, alive_seconds, sees_all=is_operator)

    def drain(self, caller: Caller, worker_id: str, *, checkpoint: bool) -> WorkerView:
        """The worker claims nothing more. It finishes its job, or checkpoints it and lets go within seconds.

        `NotFound` for a worker that is not registered. A claim under way is waited for, so none slips through.
        """
        self._repository.lock_claims()
        self._hold(caller, worker_id, "checkpoint" if checkpoint else "finish")
        if checkpoint:
            reason = f"The operator takes the worker {worker_id} out of the pool."
            with across_teams(self._work.session):
                self._repository.ask_to_make_way(self._repository.held_by(worker_id), reason, loses_place=False)
        return self._view_of(caller, worker_id)

    def undrain(self, caller: Caller, worker_id: str) -> WorkerView:
        """The worker claims jobs again; one that was asked to let go already does so all the same."""
        self._hold(caller, worker_id, None)
        self._work.ring(Queue.GPU)
        return self._view_of(caller, worker_id)

    def _hold(self, caller: Caller, worker_id: str, drain: str | None) -> None:
        if not self._repository.hold(worker_id, drain):
            raise NotFound(f"There is no worker '{worker_id}' in the pool.", param="worker_id")
        action = "pool.resume" if drain is None else "pool.drain"
        self._audit.record(None, caller.actor, action, worker_id, drain=drain)

    def _view_of(self, caller: Caller, worker_id: str) -> WorkerView:
        return next(worker for worker in self.view(caller).workers if worker.worker_id == worker_id)

    def live_devices(self) -> list[dict[str, Any]]:
        """What workers that were heard of lately have; of this moment or the last."""
        return self._recent.get(
            "devices", lambda: self._repository.devices(heard_within_seconds=self._settings.lease_seconds)
        )

    def register_worker(self, card: WorkerCard) -> None:
        """A worker has started; replaces its earlier incarnation and hears of waiting jobs."""
        self._repository.upsert_worker(
            worker_id=card.worker_id,
            incarnation=card.incarnation,
            host=card.host,
            device=card.device,
            gpus=card.gpus,
            memory_bytes=card.memory_bytes,
            compute_capability=card.compute_capability,
            bases=None if card.bases is None else list(card.bases),
        )
        self._work.ring(Queue.GPU)

    def heartbeat_worker(
        self,
        worker_id: str,
        incarnation: str,
        *,
        resident_base: str | None,
        bases: tuple[str, ...] | None = None,
        unready: str | None = None,
    ) -> None:
        """A worker lives; `resident_base` is the weights_sha256 its engine holds, if any. `bases`: as on its card.

        `unready`: why it claims nothing all the same, in words for its operator.
        """
        folders = None if bases is None else list(bases)
        self._repository.beat_worker(worker_id, incarnation, resident_base, folders, unready)

    def forget_worker(self, worker_id: str, incarnation: str) -> None:
        """A worker leaves in good order."""
        self._repository.delete_worker(worker_id, incarnation)

    def try_control(self) -> bool:
        """Become the one control role for this transaction; False if another one is at work."""
        return self._repository.try_lock_control()

    def make_way(self) -> Preemption | None:
        """Ask the jobs of at most one worker to let go for one of a higher claim; what was decided, or None."""
        if not self._rows.has_urgent(HIGH):
            return None
        self._repository.lock_claims()
        snapshot, running, free = self._rows.for_preemption()
        found = victims(snapshot, running, free=free, rest_seconds=self._settings.preempt_after_seconds)
        if found is None:
            return None
        # Heads that fit any worker were weighed; now those that fit this one.
        exact = replace(self._rows.for_claim("queued", found.victims[0].card), teams=snapshot.teams)
        if not is_claimants(exact, found.claimant, found.victims):
            return None
        for job, reason in zip(found.victims, found.reasons, strict=True):
            self._repository.ask_to_make_way([job.job_id], reason, loses_place=True)
        return found

    def ring_waiting(self) -> None:
        """Ring every queue that has claimable work: lost rings and back-offs end here."""
        tick_seconds = self._settings.tick_seconds
        validating = self._repository.longest_claimable_seconds("validating_files")
        if validating is not None and is_ring_due(validating, tick_seconds):
            self._work.ring(Queue.CPU)
        waiting = self._repository.longest_claimable_seconds("queued")
        if waiting is not None and (
            self._repository.has_idle_worker(heard_within_seconds=_SILENT_SECONDS) or is_ring_due(waiting, tick_seconds)
        ):
            self._work.ring(Queue.GPU)


def is_ring_due(waited_seconds: float, tick_seconds: float) -> bool:
    """At each tick of the first minute, then once a minute: bells that nobody hears must not pile up in the broker."""
    return waited_seconds < 60 or waited_seconds % 60 < tick_seconds
