"""The engine as its supervisor sees it: a process with a pipe on each side."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.contracts.reports import Report
from app.contracts.specs import BaseRef, Exit, LoadBase, Stop
from tests.support.engine_process import CPU_FP32, ROOT, TIMEOUT_SECONDS, EngineProcess
from tests.workers.engine.conftest import train_spec
from workers.engine.base_model import ResidentBase
from workers.engine.training.loop import train


@pytest.fixture
def engine():
    with EngineProcess(**CPU_FP32) as engine:
        yield engine


def test_one_engine_trains_stops_fails_and_exits_as_told(engine, tiny_ref: BaseRef, tmp_path: Path):
    (ready,) = engine.read_until("ready")
    assert ready.pid == engine.process.pid
    assert (ready.device, ready.dtype, ready.threads) == ("cpu", "float32", 1)

    engine.send(LoadBase(base=tiny_ref))
    assert [r.phase for r in engine.read_until("progress") + engine.read_until("progress")] == ["load", "load"]

    # A bad base, a line that is no command, a bad adapter: failures, and the engine lives on.
    engine.send(train_spec(BaseRef(id="b", path=str(tmp_path), weights_sha256="other", context_length=8), tmp_path))
    failed = engine.read_until("failed")[-1]
    assert (failed.error.kind, failed.error.code) == ("usage", "invalid_base")
    engine.send_line('{"kind": "nonsense"}')
    assert engine.read_until("failed")[-1].error.code == "invalid_command"

    # A stop sent while the run is in progress acts, with a checkpoint of the last step.
    spec = train_spec(tiny_ref, tmp_path / "stopped", n_epochs=50, resume_checkpoint_seconds=1000)
    engine.send(spec)
    engine.read_until("metric")
    engine.send(Stop(reason="cancel"))
    reports = engine.read_until("stopped")
    assert reports[-1].step == reports[-2].step > 0
    assert reports[-2].kind == "checkpoint"

    # A stop after the run ended must not touch the next one.
    engine.send(Stop(reason="cancel"))
    engine.send(train_spec(tiny_ref, tmp_path / "whole", rows=4, n_epochs=1))
    assert engine.read_until("finished", "stopped")[-1].kind == "finished"

    engine.send(Exit())
    assert engine.process.wait(TIMEOUT_SECONDS) == 0


def test_the_end_of_the_pipe_ends_the_engine_in_the_middle_of_a_run(engine, tiny_ref: BaseRef, tmp_path: Path):
    engine.read_until("ready")
    engine.send(train_spec(tiny_ref, tmp_path, n_epochs=50))
    engine.read_until("metric")
    engine.process.stdin.close()
    assert engine.process.wait(TIMEOUT_SECONDS) == 0


def test_sigterm_stops_the_run_with_a_checkpoint_and_ends_the_engine(engine, tiny_ref: BaseRef, tmp_path: Path):
    engine.read_until("ready")
    engine.send(train_spec(tiny_ref, tmp_path, n_epochs=50, resume_checkpoint_seconds=1000))
    engine.read_until("metric")
    engine.process.send_signal(signal.SIGTERM)
    reports = engine.read_until("stopped")
    assert reports[-1].reason == "shutdown"
    assert reports[-2].kind == "checkpoint"
    assert engine.process.wait(TIMEOUT_SECONDS) == 0


def test_a_run_killed_with_sigkill_ends_as_an_unbroken_one(engine, tiny: ResidentBase, tmp_path: Path):
    engine.read_until("ready")
    engine.send(train_spec(tiny.ref, tmp_path / "killed", n_epochs=4))
    while engine.read_until("metric")[-1].step < 5:
        pass
    engine.process.kill()
    engine.process.wait(TIMEOUT_SECONDS)

    def finish(folder: Path, resume_from: str | None) -> list[Report]:
        reports: list[Report] = []
        spec = train_spec(tiny.ref, folder, n_epochs=4, resume_from=resume_from)
        train(tiny, spec, reports.append, lambda: None)
        return reports

    resumed = finish(tmp_path / "killed", str(tmp_path / "killed" / "out" / "checkpoints"))
    unbroken = finish(tmp_path / "unbroken", None)
    assert sum(r.kind == "metric" for r in resumed) < sum(r.kind == "metric" for r in unbroken)
    assert resumed[-1].adapter_sha256 == unbroken[-1].adapter_sha256
    assert resumed[-1].train_loss == unbroken[-1].train_loss


def test_a_spec_is_run_by_hand_and_a_bad_one_says_so(tiny_ref: BaseRef, tmp_path: Path):
    spec = tmp_path / "spec.json"
    spec.write_text(train_spec(tiny_ref, tmp_path, rows=4, n_epochs=1).model_dump_json())
    command = [sys.executable, "-m", "workers.engine", "run"]
    done = subprocess.run([*command, spec], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "step 1/1" in done.stdout
    assert "adapter:" in done.stdout
    spec.write_text(json.dumps({"kind": "exit"}))
    refused = subprocess.run([*command, spec], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "give a train or evaluate spec" in refused.stderr
