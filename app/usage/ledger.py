"""Writing the ledger: a lease opened by its claim, closed once, with its lines in the same transaction.

GPU-seconds are the time from the claim to the end of the lease, times the GPUs of the worker, by the database's clock.
A lease that was lost ends when it ran out, not when somebody noticed. Of several leases that a worker holds at once
each has its part (`sharing`), settled whenever one begins or ends; together they are the time the worker was busy.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from app.db.tables import EvalRun, GpuLease, Job
from app.settings import Settings
from app.usage.devices import device_kind, gpus_of, watts_of
from app.usage.kinds import UNITS, Kind, cost_of
from app.usage.repository import UsageRepository
from app.usage.sharing import Part, shared_seconds

_HOUR = timedelta(hours=1)
SYSTEM = "system"


class UsageLedger:
    """Expects the row of the job or run to be locked by the caller."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._repository = UsageRepository(session)
        self._settings = settings

    def begin_lease(self, job: Job) -> None:
        """A worker has just claimed a GPU for this job. What an earlier holder left open ends here."""
        self._repository.flush()
        started_at = job.claimed_at or self._repository.now()
        for earlier in self._repository.open_leases(job.id):
            self._close(job, earlier, max(started_at, earlier.started_at))
        worker_id = (job.owner or "").partition("/")[0]
        device = self._repository.device_of(worker_id)
        riders = self._settle(worker_id, started_at, change=+1)
        self._repository.add_lease(
            GpuLease(
                job_id=job.id,
                fence=job.fence,
                team_id=job.team_id,
                worker_id=worker_id,
                device_kind=device_kind(device),
                gpus=gpus_of(device),
                started_at=started_at,
                riders=riders + 1,
            )
        )

    def end_lease(self, job: Job) -> None:
        """The holder lets go, or is lost. Call it before owner and `lease_until` are cleared; repeats harmlessly.

        A lease of a worker without a GPU (files being read) was never opened, and leaves no line.
        """
        leases = [lease for lease in self._repository.open_leases(job.id) if lease.fence == job.fence]
        for lease in leases:
            now = self._repository.now()
            until = now if job.lease_until is None else min(now, job.lease_until)
            self._close(job, lease, max(until, lease.started_at))

    def evaluated(self, run: EvalRun) -> None:
        """Tokens that a run of an eval has used since the last time."""
        models = (run.tally or {}).get("models", {}).values()
        tokens = sum(used["prompt_tokens"] + used["completion_tokens"] for used in models)
        now = self._repository.now()
        self._add_rest(
            Kind.EVALUATED_TOKENS,
            tokens,
            team_id=run.team_id,
            member=run.created_by,
            object_id=run.id,
            source=f"{run.id}/{run.fence}",
            started_at=now,
            ended_at=now,
        )

    def sample_storage(self) -> int:
        """What each team stores, for the hours since its last sample (control role); how many teams."""
        if not self._repository.lock_sampling():
            return 0
        hour = self._repository.now().replace(minute=0, second=0, microsecond=0)
        due = self._repository.storage_samples_due(hour)
        for team_id, until in due:
            started_at = until or hour - _HOUR
            seconds = (hour - started_at).total_seconds()
            self._add(
                Kind.BYTE_SECONDS,
                self._repository.stored_bytes(team_id) * seconds,
                team_id=team_id,
                member=SYSTEM,
                object_id=None,
                source=f"{team_id}/{hour.isoformat()}",
                started_at=started_at,
                ended_at=hour,
            )
        return len(due)

    def _settle(self, worker_id: str, until: datetime, *, change: int) -> int:
        """Share the time up to now out among the open leases of a worker, of which there will be `change` more.

        Returns how many there are now.
        """
        leases = self._repository.lock_open_leases_of_worker(worker_id)
        since = [lease.settled_at or lease.started_at for lease in leases]
        parts = []
        for lease, moment in zip(leases, since, strict=True):
            # Alone it takes all of the time, whatever it did in it.
            tokens = self._repository.tokens_since(lease.job_id, moment) if len(leases) > 1 else 0
            parts.append(Part((moment - until).total_seconds(), tokens))
        for lease, moment, seconds in zip(leases, since, shared_seconds(parts, 0.0), strict=True):
            lease.gpu_seconds += seconds * lease.gpus
            lease.settled_at = max(until, moment)
            lease.riders = max(1, len(leases) + change)
        self._repository.flush()
        return len(leases)

    def _close(self, job: Job, lease: GpuLease, ended_at: datetime) -> None:
        self._settle(lease.worker_id, ended_at, change=-1)
        lease.ended_at = ended_at
        self._repository.flush()
        seconds = lease.gpu_seconds
        watts = watts_of(self._settings.device_watts, lease.device_kind)
        common: dict[str, Any] = {
            "team_id": job.team_id,
            "member": job.created_by,
            "object_id": job.id,
            "source": f"{job.id}/{lease.fence}",
            "started_at": lease.started_at,
            "ended_at": ended_at,
            "device_kind": lease.device_kind,
        }
        self._add(Kind.GPU_SECONDS, seconds, **common)
        if watts > 0:
            self._add(Kind.ENERGY_WH, seconds * watts / 3600, **common)
        trained = max(job.trained_tokens or 0, self._repository.newest_trained_tokens(job.id))
        self._add_rest(Kind.TRAINED_TOKENS, trained, **common)
        job.usage = self._sum(job.id)

    def _sum(self, job_id: str) -> dict[str, Any]:
        totals = self._repository.totals(job_id)
        nothing = (0.0, Decimal(0))
        return {
            "gpu_seconds": round(totals.get(Kind.GPU_SECONDS, nothing)[0], 6),
            "energy_wh": round(totals.get(Kind.ENERGY_WH, nothing)[0], 6),
            "tokens": round(totals.get(Kind.TRAINED_TOKENS, nothing)[0]),
            "cost": float(sum((cost for _, cost in totals.values()), Decimal(0))),
            "currency": self._settings.currency,
        }

    def _add_rest(self, kind: Kind, total: float, *, object_id: str, **values: Any) -> None:
        """What is not in the ledger yet of a figure that only grows."""
        rest = total - self._repository.total(object_id, kind)
        if rest > 0:
            self._add(kind, rest, object_id=object_id, **values)

    def _add(self, kind: Kind, quantity: float, **values: Any) -> None:
        price = self._repository.price_at(UNITS[kind].price_kind, values.get("device_kind"), values["started_at"])
        self._repository.add_record(kind=kind, quantity=quantity, cost=cost_of(kind, quantity, price), **values)
