import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.contracts.specs import Exit
from workers.supervisor import engine_process
from workers.supervisor.engine_process import EngineLost, EngineProcess, engine_environment

SCRIPTED = Path(__file__).parents[2] / "support" / "scripted_engine.py"
SECONDS = 20.0

StartEngine = Callable[..., EngineProcess]


@pytest.fixture
def start_engine(tmp_path: Path) -> Iterator[StartEngine]:
    started: list[EngineProcess] = []

    def start(*faults: dict, command: list[str] | None = None) -> EngineProcess:
        script = tmp_path / "script.json"
        script.write_text(json.dumps({"faults": faults}))
        engine = EngineProcess(
            command or [sys.executable, str(SCRIPTED), str(script)],
            engine_environment(os.environ, threads=1),
            tmp_path / "engine",
        )
        engine.start()
        started.append(engine)
        return engine

    yield start
    for engine in started:
        engine.kill("the test is over")


def lost(engine: EngineProcess) -> str:
    """How the engine ended, once it has."""
    try:
        while engine.next_report(SECONDS) is not None:
            pass
    except EngineLost as end:
        return str(end)
    pytest.fail("the engine lives on")


def wait_until_dead(pid: int) -> None:
    """Its end may be a moment away, or waits for somebody to collect it."""
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        threading.Event().wait(0.01)
    pytest.fail(f"process {pid} lives on")


def test_the_first_report_tells_of_the_device(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.take_ready(SECONDS)
    assert engine.ready is not None
    assert engine.ready.pid == engine.pid


def test_an_engine_told_to_exit_ends_with_code_0(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.take_ready(SECONDS)
    engine.send(Exit())
    assert lost(engine) == "the engine ended with exit code 0"
    assert not engine.is_alive()


@pytest.mark.parametrize(
    ("kills", "said"),
    [((4, 4), "the engine was killed by SIGKILL from outside"), ((4, 5), "the worker's machine ran out of memory")],
)
def test_death_by_sigkill_is_told_from_the_kernels_own_for_want_of_memory(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, kills: tuple[int, int], said: str
) -> None:
    counted = iter(kills)
    monkeypatch.setattr(engine_process, "memory_kills", lambda: next(counted))
    assert lost(start_engine({"phase": "ready", "kind": "sigkill"})).startswith(said)


def test_an_exit_code_is_named(start_engine: StartEngine) -> None:
    assert lost(start_engine({"phase": "ready", "kind": "exit"})) == "the engine ended with exit code 3"


def test_death_by_another_signal_is_named(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.take_ready(SECONDS)
    os.kill(engine.pid, signal.SIGSEGV)
    assert lost(engine) == "the engine was killed by SIGSEGV"


def test_a_kill_of_ours_is_told_with_its_reason(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.take_ready(SECONDS)
    engine.kill("the test wants it")
    assert not engine.is_alive()
    assert lost(engine) == "the engine was stopped: the test wants it"
    assert not psutil.pid_exists(engine.pid)


def test_garbage_on_the_pipe_ends_the_engine(start_engine: StartEngine) -> None:
    engine = start_engine({"phase": "ready", "kind": "garbage"})
    assert lost(engine) == "the engine wrote something that is no report"
    assert not psutil.pid_exists(engine.pid)


def test_a_command_to_a_dead_engine_is_refused(start_engine: StartEngine) -> None:
    engine = start_engine({"phase": "ready", "kind": "exit"})
    lost(engine)
    with pytest.raises(EngineLost):
        engine.send(Exit())


def test_a_program_that_does_not_exist_is_told(start_engine: StartEngine) -> None:
    with pytest.raises(EngineLost, match="could not be started"):
        start_engine(command=["/nonexistent/engine"])


def test_children_of_the_engine_go_with_it(start_engine: StartEngine, tmp_path: Path) -> None:
    child = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, file=sys.stderr); sys.exit(5)"
    engine = start_engine(command=[sys.executable, "-c", child])
    assert lost(engine) == "the engine ended with exit code 5"
    pid = int((tmp_path / "engine" / "engine.log").read_text().split()[-1])
    wait_until_dead(pid)


def test_stderr_goes_to_a_log_and_its_percent_signs_stay(start_engine: StartEngine, tmp_path: Path) -> None:
    engine = start_engine(command=[sys.executable, "-c", "import sys; print('100%s', file=sys.stderr)"])
    lost(engine)
    assert (tmp_path / "engine" / "engine.log").read_text().endswith("100%s\n")


def test_the_engine_learns_no_address_and_no_key() -> None:
    source = {
        "PATH": "/bin",
        "HOME": "/home/x",
        "CUDA_VISIBLE_DEVICES": "3",
        "TUNESMITH_DATABASE_URL": "postgresql://secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "OPENAI_API_KEY": "secret",
    }
    environment = engine_environment(source, threads=2)
    assert "secret" not in str(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment["OMP_NUM_THREADS"] == environment["TUNESMITH_ENGINE_THREADS"] == "2"
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_an_engine_dies_with_its_supervisor_even_when_it_is_deaf(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"faults": [{"phase": "ready", "kind": "hang"}]}))
    supervisor = f"""
import os, sys, time
from pathlib import Path
from workers.supervisor import engine_process
from workers.supervisor.engine_process import EngineProcess, engine_environment
engine = EngineProcess([sys.executable, {str(SCRIPTED)!r}, {str(script)!r}],
                       engine_environment(os.environ, threads=1), Path({str(tmp_path)!r}))
engine.start()
while not Path({str(script)!r} + ".reached-ready").exists():
    time.sleep(0.01)
print(engine.pid, flush=True)
time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", supervisor], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    with process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.wait()
        wait_until_dead(pid)


def test_where_memory_runs_out_the_kernel_ends_the_engine_before_its_supervisor(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.take_ready(SECONDS)
    scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (engine.pid, os.getpid())]
    assert scores[0] >= min(1000, scores[1] + 500)
