"""The pool as somebody may see it: all workers, the own jobs by name, and of other teams that they are there."""

from dataclasses import dataclass
from typing import Any, Literal

from app.db.tables import Worker
from app.pool.repository import PoolRepository
from app.pool.snapshot import TeamUse
from app.pool.snapshot_repository import SnapshotRows

WorkerState = Literal["idle", "busy", "draining", "unready", "lost"]


@dataclass(frozen=True)
class RunView:
    """A job that runs there; both None where they are not the viewer's to see."""

    job_id: str | None
    team_id: str | None


@dataclass(frozen=True)
class WorkerView:
    """A worker as the pool shows it, with the jobs that ride there, the first to come first."""

    worker_id: str
    host: str
    state: WorkerState
    drain: str | None
    unready: str | None
    runs: tuple[RunView, ...]
    device: dict[str, Any]
    gpus: int
    memory_bytes: int | None
    compute_capability: int | None
    bases: tuple[str, ...] | None
    resident_bases: tuple[str, ...]
    silent_seconds: float


_HIDDEN = RunView(None, None)


@dataclass(frozen=True)
class TeamView:
    """A team's use and queue; `team_id` None: all other teams together, whose limits are not shown."""

    team_id: str | None
    use: TeamUse


@dataclass(frozen=True)
class PoolView:
    """Workers, teams, and open jobs by status as (whole pool, own team)."""

    workers: tuple[WorkerView, ...]
    teams: tuple[TeamView, ...]
    jobs: dict[str, tuple[int, int]]


def look(
    repository: PoolRepository, rows: SnapshotRows, team_id: str, lease_seconds: float, *, sees_all: bool
) -> PoolView:
    """What a member of this team may see; `sees_all` for those who run the pool."""
    base_ids = repository.base_ids()
    workers = []
    for worker, silent_seconds, held in repository.workers():
        runs = (RunView(job_id, of_team) if sees_all or of_team == team_id else _HIDDEN for job_id, of_team in held)
        workers.append(
            WorkerView(
                worker_id=worker.id,
                host=worker.host,
                state=_state(worker, is_alive=silent_seconds < lease_seconds, is_busy=bool(held)),
                drain=worker.drain,
                unready=worker.unready,
                runs=tuple(runs),
                device=worker.device,
                gpus=worker.gpus,
                memory_bytes=worker.memory_bytes,
                compute_capability=worker.compute_capability,
                bases=None if worker.bases is None else tuple(worker.bases),
                resident_bases=tuple(base_ids.get(worker.resident_base or "", ())),
                silent_seconds=silent_seconds,
            )
        )
    teams = _teams(rows.all_uses(), team_id, sees_all=sees_all)
    return PoolView(tuple(workers), teams, repository.count_open(team_id))


def _state(worker: Worker, *, is_alive: bool, is_busy: bool) -> WorkerState:
    if not is_alive:
        return "lost"
    if worker.drain is not None:
        return "draining"
    if is_busy:
        return "busy"
    return "idle" if worker.unready is None else "unready"


def _teams(uses: dict[str, TeamUse], team_id: str, *, sees_all: bool) -> tuple[TeamView, ...]:
    if sees_all:
        return tuple(TeamView(name, use) for name, use in sorted(uses.items()))
    others = [use for name, use in uses.items() if name != team_id]
    summed = TeamUse(gpus=sum(use.gpus for use in others), waiting=sum(use.waiting for use in others))
    own = TeamView(team_id, uses.get(team_id, TeamUse()))
    return (own, TeamView(None, summed)) if others else (own,)
