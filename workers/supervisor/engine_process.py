"""One engine process: started in its own session, spoken to in JSON lines, killed as a group.

Several threads may each run something on it: they read their own reports.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import INFO, Formatter, LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path

from pydantic import ValidationError

from app.contracts.reports import Ready, Report, report_adapter
from app.contracts.specs import Command
from app.logs import logger
from workers.supervisor.mailboxes import NOBODY, Mailboxes
from workers.supervisor.memory_kills import memory_kills

ENGINE_COMMAND = (sys.executable, "-P", "-m", "workers.engine")

# What an engine may know of its surroundings: no address, no key, nothing of TUNESMITH_.
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "GOMP_SPINCOUNT",
    "OMP_WAIT_POLICY",
)
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # lets a resumed run repeat the unbroken one on a GPU
}
_NO_MEMORY = (
    "the worker's machine ran out of memory and the system killed the engine. Use a smaller batch size, shorter rows or"
    " a smaller base, or ask the operator for a worker with more memory"
)
_OOM_SCORE = "500"  # of 1000, on top of what its memory counts
_LOG_BYTES = 4 * 1024 * 1024
_EXIT_WAIT_SECONDS = 5.0


class EngineLost(Exception):  # noqa: N818 - the state of the engine
    """The engine is gone or speaks nonsense; the message says how, in words for the job's owner."""

    def __init__(self, message: str, code: str = "worker_crashed") -> None:
        super().__init__(message)
        self.code = code


def engine_environment(source: Mapping[str, str], *, threads: int | None, dtype: str | None = None) -> dict[str, str]:
    """The few variables an engine gets: an allowlist, offline flags, the number of CPU threads, the number format."""
    result = {name: source[name] for name in _INHERITED if name in source}
    package_root = Path(__file__).resolve().parents[2]
    result["PYTHONPATH"] = os.pathsep.join(filter(None, (str(package_root), source.get("PYTHONPATH"))))
    result.update(_OFFLINE)
    if threads is not None:
        result.update(dict.fromkeys(("TUNESMITH_ENGINE_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)))
    if dtype is not None:
        result["TUNESMITH_ENGINE_DTYPE"] = dtype
    return result


class EngineProcess:
    """The life of one process, from `start` to its end. A new engine is a new object."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._command = tuple(command)
        self._environment = dict(environment)
        self._folder = folder
        self._mail = Mailboxes()
        self._stdin_lock = threading.Lock()
        self._reap_lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._spawned = threading.Event()
        self._spawn_error: OSError | None = None
        self._killed_because: str | None = None
        self._lost: EngineLost | None = None
        self._memory_kills: int | None = None
        self._silences: dict[str, float] = {}
        self._seated: set[str] = set()
        self._seated_at_end: frozenset[str] = frozenset()
        self._seats_lock = threading.Lock()
        self._stderr_tail: deque[str] = deque(maxlen=20)
        self._ended = threading.Event()
        self._nonsense: str | None = None
        self._keeper = threading.Thread(target=self._keep, name="engine-keeper", daemon=True)
        self.ready: Ready | None = None
        self.resident_base: str | None = None
        self.last_report_at = time.monotonic()

    @property
    def pid(self) -> int:
        assert self._process is not None, "start() comes first"  # noqa: S101
        return self._process.pid

    def start(self) -> None:
        """Spawn the process; `EngineLost` if the system cannot. Does not wait for `Ready`."""
        self._keeper.start()
        self._spawned.wait()
        if self._spawn_error is not None:
            raise EngineLost(f"the engine could not be started: {self._spawn_error}") from self._spawn_error

    def take_ready(self, timeout_seconds: float) -> None:
        """Wait a while for the engine's first report; `EngineLost` if the engine ends or says something else."""
        report = self.next_report(timeout_seconds)
        if report is None:
            return
        if not isinstance(report, Ready):
            self.kill("it reported before it was ready")
            raise EngineLost("the engine reported before it was ready")
        self.ready = report

    def send(self, command: Command) -> None:
        """Write one command; `EngineLost` if nobody reads any more."""
        line = command.model_dump_json().encode() + b"\n"
        process = self._process
        if process is None or process.stdin is None:
            raise EngineLost("the engine was never started")
        try:
            with self._stdin_lock:
                process.stdin.write(line)
                process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._lost or EngineLost(f"the engine no longer listens: {error}") from error

    def open_box(self, run_id: str) -> None:
        """Reports of this run are kept for `next_report` from now on."""
        self._mail.open(run_id)

    def close_box(self, run_id: str) -> None:
        self._mail.close(run_id)
        self._silences.pop(run_id, None)

    def allow_silence(self, run_id: str, seconds: float) -> float:
        """A run may have nothing to say for so long; for how long all may, as one at work keeps the others waiting."""
        self._silences[run_id] = seconds
        return max(self._silences.copy().values())

    def next_report(self, timeout_seconds: float, run_id: str = NOBODY) -> Report | None:
        """The next report of a run, None after the timeout; `EngineLost` once all was read and the process has ended.

        Without a run: what is about none of them.
        """
        return self._mail.get(run_id, timeout_seconds)

    @contextmanager
    def seat(self, job_id: str) -> Iterator[None]:
        """Within: this job is one of those that the process works for."""
        with self._seats_lock:
            self._seated.add(job_id)
        try:
            yield
        finally:
            with self._seats_lock:
                self._seated.discard(job_id)

    @property
    def is_shared(self) -> bool:
        """Whether it works for several jobs; of a process that has ended, whether it did so then or since."""
        with self._seats_lock:
            return len(self._seated | self._seated_at_end) > 1

    def is_alive(self) -> bool:
        return self._process is not None and not self._ended.is_set()

    def kill(self, because: str) -> None:
        """SIGKILL to the whole group, then wait until the system has taken everything back."""
        process = self._process
        if process is None:
            return
        with self._reap_lock:
            if process.returncode is None:
                self._killed_because = self._killed_because or because
                _kill_group(process.pid)
        self._ended.wait(_EXIT_WAIT_SECONDS)

    def close(self, grace_seconds: float) -> None:
        """End of input asks it to leave; after the grace it is killed."""
        if self._process is None:
            return
        self._close_stdin()
        self._keeper.join(grace_seconds)
        self.kill("its supervisor left")

    def _keep(self) -> None:
        """Spawn, wait for the end, kill what is left of the group while its id is still taken, reap.

        One thread for all of it: the engine asks the kernel to be killed when its parent dies, and
        "parent" means the thread that spawned it.
        """
        try:
            process = self._spawn()
        except OSError as error:
            self._spawn_error = error
            self._spawned.set()
            return
        self._process = process
        _prefer_to_be_killed(process.pid)
        self._spawned.set()
        readers = [
            threading.Thread(target=read, args=(process,), name=f"engine-{name}", daemon=True)
            for name, read in (("stdout", self._read_reports), ("stderr", self._copy_stderr))
        ]
        for reader in readers:
            reader.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._reap_lock:
            _kill_group(process.pid)
            exit_code = process.wait()
        with self._seats_lock:
            self._seated_at_end = frozenset(self._seated)
            self._ended.set()
        self._close_stdin()
        for reader in readers:
            reader.join(_EXIT_WAIT_SECONDS)
        self._lost = EngineLost(self._nonsense) if self._nonsense else self._describe_end(exit_code)
        self._mail.put_end(self._lost)

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._memory_kills = memory_kills()
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            cwd=self._folder,
            start_new_session=True,
        )

    def _read_reports(self, process: subprocess.Popen[bytes]) -> None:
        """Queue reports until the end of the pipe. A line that is none, or a pipe closed in life, ends the engine."""
        assert process.stdout is not None  # noqa: S101
        with process.stdout:
            for line in process.stdout:
                try:
                    report = report_adapter.validate_json(line)
                except ValidationError:
                    logger.error("the engine wrote a line that is no report: %r", line[:200])
                    self._nonsense = "the engine wrote something that is no report"
                    self.kill(self._nonsense)
                    return
                self.last_report_at = time.monotonic()
                self._mail.put(report)
        if not self._ended.wait(_EXIT_WAIT_SECONDS):
            self.kill("it closed its reports")

    def _copy_stderr(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101
        log = RotatingFileHandler(self._folder / "engine.log", maxBytes=_LOG_BYTES, backupCount=2, encoding="utf-8")
        log.setFormatter(Formatter(f"%(asctime)s {process.pid} %(message)s"))
        try:
            for line in process.stderr:
                text = line.decode("utf-8", "replace").rstrip()
                self._stderr_tail.append(text)
                log.handle(LogRecord("engine", INFO, "", 0, text, None, None))
        finally:
            process.stderr.close()
            log.close()

    def _close_stdin(self) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            with self._stdin_lock:
                process.stdin.close()
        except OSError as error:
            logger.debug("the engine had closed its input already: %s", error)

    def _describe_end(self, exit_code: int) -> EngineLost:
        if self._killed_because is not None:
            return EngineLost(f"the engine was stopped: {self._killed_because}")
        for line in self._stderr_tail:
            logger.error("engine's last words: %s", line)
        if exit_code == -signal.SIGKILL:
            if memory_kills() != self._memory_kills:
                return EngineLost(_NO_MEMORY, "out_of_memory")
            return EngineLost("the engine was killed by SIGKILL from outside")
        if exit_code < 0:
            return EngineLost(f"the engine was killed by {signal.Signals(-exit_code).name}")
        return EngineLost(f"the engine ended with exit code {exit_code}")


def _prefer_to_be_killed(pid: int) -> None:
    """Where memory runs out, the kernel ends the engine and not its supervisor, who tells what happened."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text(_OOM_SCORE)
    except OSError as error:
        logger.debug("the kernel was not told which process to end first: %s", error)


def _kill_group(leader_pid: int) -> None:
    try:
        os.killpg(leader_pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("the engine's group %d is gone already", leader_pid)
