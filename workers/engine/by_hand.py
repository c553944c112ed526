"""The engine without a supervisor: `run SPEC.json` and `convert-gguf`, with output for people."""

import sys
from pathlib import Path

from pydantic import ValidationError

from app.contracts.errors import WorkerFailure
from app.contracts.reports import (
    Checkpoint,
    Encoded,
    Evaluation,
    Failed,
    Finished,
    Metric,
    Progress,
    Ready,
    Report,
    Stopped,
    command_adapter,
)
from app.contracts.specs import EvalSpec, TrainSpec
from workers.engine.convert_gguf import convert_gguf
from workers.engine.engine import Engine, StopSignal
from workers.engine.machine import set_up_torch


def run_spec(path: Path) -> int:
    """Run the spec in a file to its end; Ctrl-C stops it hard, its checkpoints stay."""
    try:
        command = command_adapter.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        sys.stderr.write(f"{path} is not a spec: {error}\n")
        return 2
    if not isinstance(command, TrainSpec | EvalSpec):
        sys.stderr.write(f"{path} holds a {command.kind} command; give a train or evaluate spec.\n")
        return 2
    has_failed = False

    def report(report: Report) -> None:
        nonlocal has_failed
        has_failed = has_failed or isinstance(report, Failed)
        sys.stdout.write(f"{describe(report)}\n")
        sys.stdout.flush()

    set_up_torch()
    engine = Engine(report)
    report(engine.ready())
    engine.run(command, StopSignal())
    return 1 if has_failed else 0


def convert_file(source: Path, destination: Path) -> int:
    """GGUF to base folder; prints where it lies."""
    set_up_torch()
    try:
        convert_gguf(source, destination)
    except (WorkerFailure, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"base folder written: {destination}\n")
    return 0


def describe(report: Report) -> str:
    """One line for a person."""
    match report:
        case Progress():
            text = f"{report.phase} {report.done}/{report.total or '?'} {report.message}".rstrip()
        case Encoded():
            text = (
                f"{report.rows_trained} of {report.rows_in} rows, {report.tokens} tokens "
                f"({report.supervised_tokens} learned), {report.total_steps} steps, "
                f"{report.trainable_parameters} parameters"
            ) + "".join(f"\n  line {line} dropped: {reason}" for line, reason in report.dropped)
        case Metric():
            text = _describe_metric(report)
        case Checkpoint():
            text = f"checkpoint of step {report.step}: {report.path}"
        case Finished():
            text = f"finished in {report.train_seconds:.1f} s; adapter: {report.adapter_path}"
        case Stopped():
            text = f"stopped ({report.reason}) after step {report.step}"
        case Failed():
            text = f"failed: {report.error.code}: {report.error.message}"
        case Evaluation():
            text = report.model_dump_json(indent=2)
        case Ready():
            text = f"engine on {report.device}, {report.dtype}, {report.threads} threads, torch {report.torch}"
    return text


def _describe_metric(metric: Metric) -> str:
    valid = "" if metric.valid_loss is None else f" · valid loss {metric.valid_loss:.4f}"
    full = "" if metric.full_valid_loss is None else f" · full valid loss {metric.full_valid_loss:.4f}"
    return (
        f"step {metric.step}/{metric.total_steps} · loss {metric.train_loss:.4f} · "
        f"accuracy {metric.train_mean_token_accuracy:.3f} · {metric.tokens / metric.step_seconds:.0f} tokens/s · "
        f"{metric.eta_seconds:.0f} s left{valid}{full}"
    )
