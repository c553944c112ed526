"""The shared GPUs: who is there, which job is next, and which bells to ring again."""

from dataclasses import dataclass
from typing import Any

from app.context import Context
from app.contracts.tasks import Queue
from app.db.engine import UnitOfWork
from app.pool.fairshare import Snapshot, pick
from app.pool.repository import PoolRepository

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

    @property
    def owner(self) -> str:
        """How leases name the holder."""
        return f"{self.worker_id}/{self.incarnation}"


@dataclass(frozen=True)
class WorkerView:
    """A worker as the pool shows it."""

    worker_id: str
    device: dict[str, Any]
    is_alive: bool
    is_busy: bool
    silent_seconds: float


@dataclass(frozen=True)
class PoolView:
    """Workers, and open jobs by status as (whole pool, own team)."""

    workers: tuple[WorkerView, ...]
    jobs: dict[str, tuple[int, int]]


class PoolService:
    """Claims and workers."""

    def __init__(self, work: UnitOfWork, context: Context) -> None:
        self._work = work
        self._settings = context.settings
        self._repository = PoolRepository(work.session)

    def claim(self, owner: str, *, from_status: str, to_status: str) -> Claim | None:
        """Lease the job that fair share picks among those of `from_status`; None if none can be claimed.

        Claims are serialised until the caller's commit, so two workers never weigh the same snapshot.
        """
        self._repository.lock_claims()
        job_id = pick(self._repository.snapshot(from_status))
        if job_id is None:
            return None
        fence = self._repository.take(
            job_id,
            owner,
            from_status=from_status,
            to_status=to_status,
            lease_seconds=self._settings.lease_seconds,
        )
        # None: its owner cancelled or paused it since the snapshot; the next ring tries again.
        return None if fence is None else Claim(job_id, fence)

    def snapshot(self) -> Snapshot:
        """Jobs that wait for a GPU, for explanations."""
        return self._repository.snapshot("queued")

    def view(self, team_id: str) -> PoolView:
        """The pool as a team sees it: counts of all, names of nobody else's jobs."""
        workers = tuple(
            WorkerView(
                worker_id=worker.id,
                device=worker.device,
                is_alive=silent_seconds < self._settings.lease_seconds,
                is_busy=job_id is not None,
                silent_seconds=silent_seconds,
            )
            for worker, silent_seconds, job_id in self._repository.workers()
        )
        return PoolView(workers=workers, jobs=self._repository.count_open(team_id))

    def live_devices(self) -> list[dict[str, Any]]:
        """What workers that were heard of lately have."""
        return self._repository.devices(heard_within_seconds=self._settings.lease_seconds)

    def register_worker(self, card: WorkerCard) -> None:
        """A worker has started; replaces its earlier incarnation and hears of waiting jobs."""
        self._repository.upsert_worker(
            worker_id=card.worker_id, incarnation=card.incarnation, host=card.host, device=card.device
        )
        self._work.ring(Queue.GPU)

    def heartbeat_worker(self, worker_id: str, incarnation: str, *, resident_base: str | None) -> None:
        """A worker lives; `resident_base` is the weights_sha256 its engine holds, if any."""
        self._repository.beat_worker(worker_id, incarnation, resident_base)

    def forget_worker(self, worker_id: str, incarnation: str) -> None:
        """A worker leaves in good order."""
        self._repository.delete_worker(worker_id, incarnation)

    def try_control(self) -> bool:
        """Become the one control role for this transaction; False if another one is at work."""
        return self._repository.try_lock_control()

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
