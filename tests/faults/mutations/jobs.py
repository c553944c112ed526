"""Whose a job is, and what becomes of it: leases, fences, those who ride together, the life of a job."""

from tests.faults.mutations.mutant import FAULTS, GOAL, Mutant

_JOBS = " ".join(f"tests/app/jobs/test_{part}.py" for part in ("worker_service", "attempts", "leases"))
_RACES = f"{GOAL}[races]"
_CLAIMS = "tests/app/pool/test_claims.py"
_HELD = """            .where(Job.id == job_id, Job.fence == fence, Job.owner.is_not(None))
            .with_for_update()"""

JOBS = (
    # Leases and fences.
    Mutant(
        "the fence is not compared",
        "app/jobs/repository.py",
        _HELD,
        "            .where(Job.id == job_id, Job.owner.is_not(None))\n            .with_for_update()",
        _RACES,
    ),
    Mutant(
        "a worker writes after it let go",
        "app/jobs/repository.py",
        _HELD,
        "            .where(Job.id == job_id, Job.fence == fence)\n            .with_for_update()",
        _JOBS,
    ),
    Mutant("a claim keeps the fence", "app/pool/repository.py", "fence=Job.fence + 1", "fence=Job.fence", _RACES),
    Mutant(
        "a job that is held since the snapshot can be taken",
        "app/pool/conditions.py",
        "or_(Job.owner.is_(None), Job.lease_until < moment)",
        "or_(Job.owner.is_(None), Job.lease_until.is_not(None))",
        _CLAIMS,
    ),
    Mutant(
        "a job that is held has its turn",
        "app/pool/heads_repository.py",
        "AND (owner IS NULL OR lease_until < :now)",
        "AND (owner IS NULL OR :now IS NOT NULL)",
        _CLAIMS,
    ),
    Mutant(
        "leases are ended before they run out",
        "app/jobs/repository.py",
        ".where(Job.owner.is_not(None), Job.lease_until < func.clock_timestamp())",
        ".where(Job.owner.is_not(None))",
        _JOBS,
    ),
    Mutant(
        "a worker started anew ends its own leases",
        "app/jobs/repository.py",
        "autoescape=True), Job.owner != but_not)",
        "autoescape=True))",
        _JOBS,
    ),
    Mutant(
        "a lease counts from the answer of its renewal",
        "workers/supervisor/lease.py",
        "requested_at + self._seconds)",
        "time.monotonic() + self._seconds)",
        "tests/workers/supervisor/test_lease.py",
    ),
    Mutant(
        "a worker writes to the last moment of its lease",
        "workers/supervisor/lease.py",
        "margin = min(MARGIN_SECONDS, self._seconds / 3)",
        "margin = 0.0",
        "tests/workers/supervisor/test_lease.py",
    ),
    Mutant(
        "a fenced worker goes on",
        "workers/supervisor/held_job.py",
        "                self.lease.lose()\n",
        "",
        f"{FAULTS}/test_lease.py",
    ),
    Mutant(
        "an engine outlives the lease of its job",
        "workers/supervisor/run_watch.py",
        "elif self._lease.seconds_left() <= 0:",
        "elif self._lease.seconds_left() < 0:",
        f"{FAULTS}/test_lease.py",
    ),
    Mutant(
        "a deaf engine is never killed",
        "workers/supervisor/run_watch.py",
        "if kill_at is not None and time.monotonic() >= kill_at:",
        "if kill_at is not None and time.monotonic() < 0:",
        f"{GOAL}[cancels]",
    ),
    Mutant(
        "a worker that stands still keeps its locks",
        "app/db/engine.py",
        "idle_in_transaction_session_timeout={round(1000 * idle_transaction_seconds)}",
        "idle_in_transaction_session_timeout=0",
        "tests/app/db/test_engine.py",
    ),
    Mutant(
        "figures of a lost attempt are forgotten",
        "workers/supervisor/job_steps.py",
        "        self._metrics += checkpoint_folder.metrics_between(self._resume, after_step=stored_step)\n",
        "",
        f"{FAULTS}/test_worker_process.py",
    ),
    # Those who ride together.
    Mutant(
        "teams that must not share a process do",
        "app/pool/riding.py",
        "(one.may_share and other.may_share)",
        "(one.may_share or other.may_share)",
        "tests/app/pool/test_riding.py",
    ),
    Mutant(
        "a second rider takes a second GPU of the quota",
        "app/pool/uses_repository.py",
        "SELECT DISTINCT team_id, owner",
        "SELECT team_id, owner",
        "tests/app/pool/test_companions.py",
    ),
    Mutant(
        "everybody pays an attempt for a dead engine",
        "workers/supervisor/run_job.py",
        "if engine.is_shared:",
        "if False:",
        "tests/workers/supervisor/test_riders.py",
    ),
    Mutant(
        "a lost lease kills the engine under the others",
        "workers/supervisor/run_watch.py",
        "        if not self._engine.is_shared:\n",
        "        if True:\n",
        "tests/workers/supervisor/test_riders.py",
    ),
    Mutant(
        "riders pay for each other's time",
        "app/usage/ledger.py",
        "        self._settle(lease.worker_id, ended_at, change=-1)\n",
        "        lease.gpu_seconds = (ended_at - lease.started_at).total_seconds() * lease.gpus\n",
        "tests/app/usage/test_shared_leases.py",
    ),
    Mutant(
        "a half-done update is taken for a whole one",
        "workers/engine/training/loop.py",
        "    seat.is_whole = False\n    gradient.mul_",
        "    gradient.mul_",
        "tests/workers/engine/training/test_seating.py",
    ),
    # The life of a job.
    Mutant(
        "a job that crashes is tried for ever",
        "app/jobs/ending.py",
        "if job.attempts >= self._max_attempts:",
        "if job.attempts > 10 * self._max_attempts:",
        _JOBS,
    ),
    Mutant(
        "a cancelled job succeeds",
        "app/jobs/states.py",
        "(_S.CANCELLED, _E.SUCCEED): _S.CANCELLED",
        "(_S.CANCELLED, _E.SUCCEED): _S.SUCCEEDED",
        "tests/app/jobs/test_states.py",
    ),
    Mutant(
        "a cancel does not reach the worker",
        "app/jobs/worker_service.py",
        "        if job.status == Status.CANCELLED:\n            return Directive.CANCEL\n",
        "",
        _JOBS,
    ),
    Mutant(
        "figures sent twice are told twice",
        "app/jobs/results.py",
        "if self._repository.upsert_metric(job.id, metric.step, figures):",
        "if self._repository.upsert_metric(job.id, metric.step, figures) or True:",
        _JOBS,
    ),
    Mutant(
        "a result published twice becomes two models",
        "app/registry/service.py",
        "if known is not None:\n            return known",
        "if known is None:\n            pass",
        _JOBS,
    ),
)
