"""Faults of our own, each a change of one place in the code, and beside it the tests that must notice.

Add one whenever a guard is added: a guard that no test misses is not there.
"""

from dataclasses import dataclass

_FAULTS = "tests/faults"
_JOBS = " ".join(f"tests/app/jobs/test_{part}.py" for part in ("worker_service", "attempts", "leases"))
_GOAL = "tests/faults/test_goals.py::test_nothing_is_lost_nor_done_twice"
_RACES, _TORN = f"{_GOAL}[races]", f"{_GOAL}[torn]"

_CLAIMS = "tests/app/pool/test_claims.py"
_TOKENS, _HOSTS = "tests/app/login/test_tokens.py", "tests/app/webhooks/test_allowlist.py"
_CHALLENGE = ' and hmac.compare_digest(data["challenge"], challenge)'

_HELD = """            .where(Job.id == job_id, Job.fence == fence, Job.owner.is_not(None))
            .with_for_update()"""


@dataclass(frozen=True)
class Mutant:
    """In `path`, `old` (which occurs once) becomes `new`; one of the tests in `killers` must fail."""

    what: str
    path: str
    old: str
    new: str
    killers: str

    def apply(self, text: str) -> str:
        """`text` with the fault in it; `ValueError` if the place is gone or not the only one."""
        if text.count(self.old) != 1:
            raise ValueError(f"'{self.what}': its place occurs {text.count(self.old)} times in {self.path}")
        return text.replace(self.old, self.new)


MUTANTS = (
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
        f"{_FAULTS}/test_lease.py",
    ),
    Mutant(
        "an engine outlives the lease of its job",
        "workers/supervisor/run_watch.py",
        "elif self._lease.seconds_left() <= 0:",
        "elif self._lease.seconds_left() < 0:",
        f"{_FAULTS}/test_lease.py",
    ),
    Mutant(
        "a deaf engine is never killed",
        "workers/supervisor/run_watch.py",
        "if kill_at is not None and time.monotonic() >= kill_at:",
        "if kill_at is not None and time.monotonic() < 0:",
        f"{_GOAL}[cancels]",
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
        f"{_FAULTS}/test_worker_process.py",
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
    # Commit and bell.
    Mutant(
        "the bell rings before the commit",
        "app/db/engine.py",
        "        if self.session.in_transaction():\n            self.session.commit()\n",
        "        for queue in self._rings:\n            self._broker.ring(queue)\n"
        "        if self.session.in_transaction():\n            self.session.commit()\n",
        "tests/app/db/test_engine.py",
    ),
    Mutant(
        "a rolled-back bell rings later",
        "app/db/engine.py",
        "        self.session.rollback()\n        self._rings.clear()\n",
        "        self.session.rollback()\n",
        "tests/app/db/test_engine.py",
    ),
    Mutant(
        "bytes of a rolled-back file stay",
        "app/db/engine.py",
        "        for undo in reversed(self._after_rollback):\n            undo()\n",
        "",
        "tests/app/db/test_engine.py tests/app/files",
    ),
    Mutant(
        "a lost bell is never rung again",
        "app/pool/service.py",
        "            self._work.ring(Queue.CPU)\n",
        "            pass\n",
        "tests/app/pool/test_claims.py",
    ),
    # What is on the disk.
    Mutant(
        "a stored file is not synced",
        "app/artifacts/local.py",
        "        os.fsync(self._file.fileno())\n",
        "",
        "tests/app/artifacts",
    ),
    Mutant(
        "the folder of a stored file is not synced",
        "app/artifacts/local.py",
        "            sync_folder(folder)\n",
        "            pass\n",
        "tests/app/artifacts",
    ),
    Mutant(
        "a fetched file's hash is not compared",
        "app/artifacts/local.py",
        "if digest.hexdigest() != sha256:",
        "if False:",
        "tests/adapters/test_artifact_store.py",
    ),
    Mutant(
        "a checkpoint's files are not synced",
        "workers/engine/training/synced_files.py",
        "            contents.write(path)\n    sync(path)\n",
        "            contents.write(path)\n",
        "tests/workers/engine/training/test_checkpoint.py",
    ),
    Mutant(
        "a checkpoint is written where it will be found",
        "workers/engine/training/checkpoint.py",
        '    staging = parent / f".{_PREFIX}{step:06d}-{uuid.uuid4().hex}"\n',
        '    staging = parent / f"{_PREFIX}{step:06d}"\n',
        _TORN,
    ),
    Mutant(
        "a checkpoint's hashes are not compared",
        "workers/engine/training/checkpoint.py",
        "if _sha256(path / name) != digest:",
        "if False:",
        _TORN,
    ),
    Mutant(
        "a fetched checkpoint's hashes are not compared",
        "workers/supervisor/checkpoint_folder.py",
        "if sha256_of(folder / name) != digest:",
        "if False:",
        "tests/workers/supervisor/test_checkpoint_folder.py",
    ),
    # The wall between teams.
    Mutant(
        "a job of another team is found",
        "app/jobs/service.py",
        "if job is None or job.team_id != caller.team_id:",
        "if job is None:",
        "tests/architecture/test_authorization.py",
    ),
    Mutant(
        "a job of another team can be changed",
        "app/jobs/repository.py",
        "            .where(Job.id == job_id, Job.team_id == team_id, Job.purpose == purpose)\n",
        "            .where(Job.id == job_id, Job.purpose == purpose)\n",
        "tests/architecture/test_authorization.py",
    ),
    Mutant(
        "a file of another team is found",
        "app/files/repository.py",
        "statement = select(File).where(File.id == file_id, File.team_id == team_id, *_visible())\n",
        "statement = select(File).where(File.id == file_id, *_visible())\n",
        "tests/architecture/test_authorization.py",
    ),
    Mutant(
        "a revoked key works",
        "app/identity/service.py",
        "if key.revoked_at is not None:\n            raise",
        "if False:\n            raise",
        "tests/app/identity/test_identity.py",
    ),
    Mutant(
        "an expired key works",
        "app/identity/service.py",
        "key.expires_at <= now",
        "key.expires_at > now",
        "tests/app/identity/test_identity.py",
    ),
    Mutant(
        "every role may everything",
        "app/identity/policy.py",
        "return permission in _GRANTS[role]",
        "return permission in Permission",
        "tests/app/identity/test_policy.py",
    ),
    Mutant(
        "a key is used again for another request",
        "app/db/idempotency.py",
        "if row.fingerprint != fingerprint:",
        "if False:",
        "tests/app/api/test_idempotency.py",
    ),
    Mutant(
        "answers with secrets are kept",
        "app/db/idempotency.py",
        'None if reservation.is_secret else {"body": answer.body}',
        '{"body": answer.body}',
        "tests/app/identity/test_organization.py tests/app/identity/test_identity.py",
    ),
    Mutant(
        "a body may be as large as it likes",
        "app/api/middleware.py",
        "            if len(body) > self._max_body_bytes:\n                raise self._too_large()\n",
        "",
        "tests/app/api/test_middleware.py",
    ),
    Mutant(
        "an engine sees the service's secrets",
        "workers/supervisor/engine_process.py",
        "result = {name: source[name] for name in _INHERITED if name in source}",
        "result = dict(source)",
        "tests/workers/supervisor/test_engine_process.py",
    ),
    Mutant(
        "an address that is not verified is somebody",
        "app/login/service.py",
        "isinstance(email, str) and is_verified and",
        "isinstance(email, str) and",
        "tests/app/login/test_login.py",
    ),
    Mutant(
        "a log-in ends in another browser",
        "app/login/service.py",
        'if data is None or browser is None or not hmac.compare_digest(data["browser"], _digest(browser).hex()):',
        "if data is None:",
        "tests/app/login/test_login.py",
    ),
    Mutant(
        "a cookie writes for other sites",
        "app/api/session_cookie.py",
        "request.method not in _READING and not _is_ours(request)",
        "False",
        "tests/app/login/test_cookie.py",
    ),
    Mutant("a nonce is of no matter", "app/login/id_token.py", "expected.nonce.encode()", "nonce.encode()", _TOKENS),
    Mutant("a code is good for every program", "app/login/service.py", _CHALLENGE, "", "tests/app/cli/test_login.py"),
    Mutant("lists of hosts are for show", "app/webhooks/sending.py", "allowlist.check(target)", "pass", _HOSTS),
    # Scarcity, threads, and who is known.
    Mutant(
        "the end of a request waits for a handler's thread",
        "app/api/edge.py",
        "limiter=request.app.state.ending_threads",
        "limiter=None",
        "tests/app/api/test_edge.py",
    ),
    Mutant(
        "a bell before the pool knows the worker is lost",
        "workers/supervisor/round.py",
        "if not slot.wait_until_known():",
        "if not slot.is_known:",
        "tests/workers/supervisor/test_presence.py",
    ),
    Mutant(
        "a worker on a full disk claims",
        "workers/supervisor/round.py",
        "lack = lack_of_room(root, context.settings.scratch_min_free_bytes)",
        "lack = lack_of_room(root, 0)",
        "tests/workers/supervisor/test_workspace.py",
    ),
    Mutant(
        "a look forgets whose it is",
        "app/db/look.py",
        "(ENTER_BY_KEY_NUMBERED, (API_ROLE, sha256))",
        '(ENTER_BY_KEY_NUMBERED, ("none", sha256))',
        "tests/app/db/test_look.py",
    ),
    Mutant(
        "a manifest with a changed bit is one",
        "workers/engine/training/checkpoint.py",
        'if manifest_bytes != _manifest(state["step"], expected):',
        "if not manifest_bytes:",
        "tests/workers/engine/training/test_checkpoint.py",
    ),
    Mutant(
        "a full disk is a crash like any other",
        "app/contracts/errors.py",
        "return error.errno in _NO_ROOM",
        "return False",
        "tests/workers/engine/test_engine.py tests/app/api/test_errors.py",
    ),
    Mutant(
        "a batch is left open in a pipeline",
        "app/db/cursor.py",
        "def executemany(",
        "def execute_one_by_one(",
        "tests/app/db/test_cursor.py",
    ),
)
