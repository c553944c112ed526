"""An engine without a model: speaks the protocol, keeps real checkpoint folders, misbehaves on request.

    python scripted_engine.py SCRIPT.json

SCRIPT.json: {"step_seconds": 0.01, "checkpoint_every": 2, "best_step": null, "last_step": null, "keep": null,
              "faults": [{"phase": …, "step": …, "kind": …, "times": 1, "every": 1}]}

phase  ready | load | encode | train (with `step`) | save (a checkpoint is half written) | saved (and just reported) |
        evaluate
kind   sigkill | eat_memory (until the system ends it) | exit | garbage | hang (deaf) | hold (obeys a Stop) |
        hold_until_released | crowded | usage | transient | fatal
best_step  the step whose adapter is the result; last_step  ends the run early; keep  folders that are left
times  how often it happens, counted over all processes in SCRIPT.json.<index> (default: always)
every  of the arrivals at that point only each so-manieth, counted in SCRIPT.json.<index>.seen (default: 1)
run    only in runs whose name begins so, which is with their job's id (default: in any)

Each run has a thread of its own: several run beside each other, as seats do in the real engine.

A fault leaves a file `SCRIPT.json.reached-<phase>` before it happens, so that a test can wait for it.
"Training" is a chain of hashes over the steps: its final adapter shows whether a resumed run
went through exactly the steps of an unbroken one.
"""

import ctypes
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from app.contracts.errors import WorkerError, storage_failure
from app.contracts.reports import (
    METRIC_LOG,
    Checkpoint,
    Encoded,
    Evaluation,
    Failed,
    Finished,
    Latency,
    Metric,
    ModelScores,
    Progress,
    Ready,
    Report,
    Stopped,
    command_adapter,
)
from app.contracts.specs import EvalSpec, Exit, Stop, TrainSpec

_LATENCY = Latency(
    n=1,
    time_to_first_token_ms_p50=1,
    time_to_first_token_ms_p95=1,
    tokens_per_second_p50=1,
    end_to_end_ms_p50=1,
    end_to_end_ms_p95=1,
)


def _eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 8_000_000)


_ENDS = {
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "eat_memory": _eat_memory,
    "exit": lambda: os._exit(3),
}


class _StoppedError(Exception):
    pass


class _FailedError(Exception):
    def __init__(self, kind):
        super().__init__(kind)
        self.error = WorkerError(kind=kind, code=f"scripted_{kind}", message=f"scripted {kind} failure")


class ScriptedEngine:
    def __init__(self, script: Path) -> None:
        self.script = script
        self.faults = threading.Lock()

    def serve(self) -> None:
        Run(self, None).at("ready")
        report(
            Ready(pid=os.getpid(), device="cpu", dtype="float32", threads=1, torch="none", memory_bytes=16_000_000_000)
        )
        runs: dict[str, Run] = {}
        for line in sys.stdin.buffer:
            command = command_adapter.validate_json(line)
            match command:
                case Exit():
                    break
                case Stop():
                    for name in runs if command.run_id is None else {command.run_id} & runs.keys():
                        runs[name].stop_reason = command.reason
                case TrainSpec() | EvalSpec():
                    runs[command.run_id] = run = Run(self, command)
                    threading.Thread(target=run.run, daemon=True).start()
        os._exit(0)


class Run:
    """One command at work."""

    def __init__(self, engine: ScriptedEngine, command) -> None:
        self.engine = engine
        self.script = engine.script
        self.command = command
        self.stop_reason = None

    def run(self) -> None:
        command = self.command
        try:
            report(Progress(run_id=command.run_id, phase="load", done=0, total=1))
            self.at("load")
            if isinstance(command, TrainSpec):
                self.train(command)
            else:
                self.evaluate(command)
        except _FailedError as failure:
            report(Failed(run_id=command.run_id, error=failure.error))
        except OSError as error:
            failure = storage_failure(error, "engine_error", f"scripted engine: {error}")
            report(Failed(run_id=command.run_id, error=failure.error))
        except _StoppedError:
            report(Stopped(run_id=command.run_id, reason=self.stop_reason, step=0))

    def train(self, spec: TrainSpec) -> None:
        self.at("encode")
        rows = len(Path(spec.train_rows).read_text().splitlines())
        per_epoch = math.ceil(rows / spec.batch_size)
        total = per_epoch * spec.n_epochs
        parent = Path(spec.output_dir) / "checkpoints"
        step, state, epoch_ends, metric = 0, "", [], None
        if spec.resume_from is None:
            shutil.rmtree(parent, ignore_errors=True)
        else:
            saved = json.loads((Path(spec.resume_from) / "state.json").read_text())
            step, state, epoch_ends = saved["step"], saved["chain"], saved["epoch_end_steps"]
            metric = Metric.model_validate(saved["last_metric"])
        report(
            Encoded(
                run_id=spec.run_id,
                rows_in=rows,
                rows_trained=rows,
                dropped=(),
                truncated=0,
                tokens=rows * 10,
                supervised_tokens=rows * 2,
                longest=10,
                total_steps=total,
                trainable_parameters=1,
                targets=("q_proj",),
            )
        )
        saved_step = step
        last, best = self.setting("last_step", None) or total, self.setting("best_step", None)
        final = last if best in {None, last} else 0
        while step < last:
            self.at("train", step)
            if self.stop_reason is not None:
                if step > saved_step:
                    self.save(spec, parent, step, state=state, epoch_ends=epoch_ends, metric=metric, total=total)
                report(Stopped(run_id=spec.run_id, reason=self.stop_reason, step=step))
                return
            threading.Event().wait(self.setting("step_seconds", 0.005))
            step += 1
            state = hashlib.sha256(f"{state}{spec.seed}{step}".encode()).hexdigest()
            metric = self.metric(spec, step, total, per_epoch, state)
            parent.mkdir(parents=True, exist_ok=True)
            with (parent / METRIC_LOG).open("ab") as log:
                log.write(metric.model_dump_json().encode() + b"\n")
            report(metric)
            if step % per_epoch == 0:
                epoch_ends.append(step)
            if step % per_epoch == 0 or step % self.setting("checkpoint_every", 2) == 0 or step == last:
                self.save(spec, parent, step, state=state, epoch_ends=epoch_ends, metric=metric, total=final)
                saved_step = step
                self.prune(parent, step)
        steps_done, step = step, best or step
        adapter = parent / f"step-{step:06d}" / "adapter"
        weights = (adapter / "adapter_model.safetensors").read_bytes()
        report(
            Finished(
                run_id=spec.run_id,
                step=step,
                steps_done=steps_done,
                ended_early=last < total,
                reason="" if step == steps_done else f"Step {step} was the best of all.",
                adapter_path=str(adapter),
                adapter_sha256=hashlib.sha256(weights).hexdigest(),
                trained_tokens=steps_done * 10,
                train_loss=metric.train_loss,
                train_seconds=1.0,
            )
        )

    def prune(self, parent: Path, step: int) -> None:
        """Keep the newest `keep` folders and the best."""
        keep = self.setting("keep", None)
        if keep is not None:
            for folder in sorted(parent.glob("step-*"))[:-keep]:
                if folder.name != f"step-{self.setting('best_step', 0):06d}":
                    shutil.rmtree(folder)

    def metric(self, spec, step, total, per_epoch, state) -> Metric:
        return Metric(
            run_id=spec.run_id,
            step=step,
            total_steps=total,
            epoch=step / per_epoch,
            train_loss=int(state[:6], 16) / 2**24,
            train_mean_token_accuracy=0.5,
            learning_rate=1e-4,
            grad_norm=1.0,
            tokens=10,
            trained_tokens=step * 10,
            step_seconds=0.01,
            eta_seconds=0.0,
        )

    def save(self, spec, parent, step, *, state, epoch_ends, metric, total) -> None:
        files = {
            "adapter/adapter_model.safetensors": state.encode(),
            "adapter/adapter_config.json": b'{"peft_type": "LORA"}',
            "state.json": json.dumps(
                {
                    "step": step,
                    "chain": state,
                    "epoch_end_steps": epoch_ends,
                    "trained_tokens": step * 10,
                    "last_metric": metric.model_dump(mode="json"),
                }
            ).encode(),
        }
        manifest = json.dumps(
            {
                "version": 1,
                "step": step,
                "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            }
        ).encode()
        staging = parent / f".step-{step}"
        shutil.rmtree(staging, ignore_errors=True)  # half written by a run that was killed
        (staging / "adapter").mkdir(parents=True)
        for name, data in {**files, "manifest.json": manifest}.items():
            (staging / name).write_bytes(data)
            if name == "adapter/adapter_config.json":
                self.at("save", step)
        target = parent / f"step-{step:06d}"
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        report(
            Checkpoint(
                run_id=spec.run_id,
                step=step,
                path=str(target),
                manifest_sha256=hashlib.sha256(manifest).hexdigest(),
                is_epoch_end=step in epoch_ends,
                is_final=step == total,
                trained_tokens=step * 10,
                last_metric=metric,
            )
        )
        self.at("saved", step)

    def evaluate(self, spec: EvalSpec) -> None:
        report(Progress(run_id=spec.run_id, phase="evaluate", done=0, total=1))
        self.at("evaluate")
        scores = ModelScores(
            loss=1.0, token_accuracy=0.5, supervised_tokens=10, latency=_LATENCY, evaluation_seconds=0.1
        )
        rows = len(Path(spec.rows).read_text().splitlines())
        report(Evaluation(run_id=spec.run_id, rows=rows, labels=spec.labels, base=scores, tuned=scores, samples=()))

    def at(self, phase: str, step: int | None = None) -> None:
        """Do what the script says for this point."""
        for index, fault in enumerate(self.setting("faults", [])):
            if self.is_meant(fault, phase, step) and self.take(index, fault):
                Path(f"{self.script}.reached-{phase}").touch()
                self.misbehave(phase, fault["kind"])

    def is_meant(self, fault: dict, phase: str, step: int | None) -> bool:
        name = "" if self.command is None else self.command.run_id
        is_here = fault["phase"] == phase and fault.get("step") in (None, step)
        return is_here and name.startswith(fault.get("run", ""))

    def take(self, index: int, fault: dict) -> bool:
        with self.engine.faults:
            return self.take_alone(index, fault)

    def take_alone(self, index: int, fault: dict) -> bool:
        if not self.is_turn(index, fault.get("every", 1)):
            return False
        counter = Path(f"{self.script}.{index}")
        count = len(counter.read_bytes()) if counter.exists() else 0
        if count >= fault.get("times", math.inf):
            return False
        with counter.open("ab") as file:
            file.write(b"x")
        return True

    def is_turn(self, index: int, every: int) -> bool:
        if every == 1:
            return True
        with Path(f"{self.script}.{index}.seen").open("ab") as seen:
            seen.write(b"x")
            return seen.tell() % every == 0

    def misbehave(self, phase: str, kind: str) -> None:
        if kind in _ENDS:
            _ENDS[kind]()
        elif kind == "garbage":
            write(b"Loading weights: 100%\n")
        elif kind == "hang":
            threading.Event().wait()
        elif kind == "hold_until_released":
            while not Path(f"{self.script}.released").exists():
                threading.Event().wait(0.01)
        elif kind == "hold":
            while self.stop_reason is None:
                threading.Event().wait(0.01)
            if phase != "train":  # there the loop itself looks, and saves its last step
                raise _StoppedError
        elif kind == "crowded":
            self.stop_reason = "crowded"
        else:
            raise _FailedError(kind)

    def setting(self, name, default):
        return json.loads(self.script.read_text()).get(name, default)


_WRITING = threading.Lock()


def report(message: Report) -> None:
    write(message.model_dump_json().encode() + b"\n")


def write(line: bytes) -> None:
    with _WRITING:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    ScriptedEngine(Path(sys.argv[1])).serve()
