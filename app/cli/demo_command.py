"""`tunesmith demo`: the main job in one go, on real tickets and a real model, or on rows of yours for any task."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.base_sources import find_source
from app.cli.bases import add_base
from app.cli.chat import print_answer, stream_answer
from app.cli.client import Client
from app.cli.demo_rows import TICKETS, DemoRows
from app.cli.errors import CommandError
from app.cli.files import upload
from app.cli.jobs import submit
from app.cli.models import archive_name, download_adapter
from app.cli.private_service import service
from app.cli.report import print_comparison, print_samples, shorten
from app.cli.session import duration_text, program, session_of, size_text
from app.cli.tasks import MethodName, TaskName
from app.cli.watch import watch

_SEED = 7


@dataclass
class _Clock:
    """Seconds of each phase, in order."""

    phases: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        print(f"\n== {name}", flush=True)
        yield
        self.phases.append((name, time.monotonic() - begun))

    def print(self) -> None:
        width = max(len(name) for name, _ in self.phases)
        for name, seconds in self.phases:
            print(f"  {name:<{width}}  {duration_text(seconds):>12}")
        print(f"  {'total':<{width}}  {duration_text(sum(seconds for _, seconds in self.phases)):>12}")


def demo(
    context: typer.Context,
    *,
    data: Annotated[
        Path | None, typer.Option(help="Your own rows, of any task (JSON lines, CSV, CoNLL); default: support tickets.")
    ] = None,
    heldout: Annotated[Path | None, typer.Option(help="Rows to score on; default: split off by the service.")] = None,
    task: Annotated[TaskName | None, typer.Option(help="Default: inferred from the rows.", show_default=False)] = None,
    method: Annotated[MethodName, typer.Option(help="dpo learns from pairs of answers.")] = MethodName.SUPERVISED,
    base: Annotated[
        str | None, typer.Option(help="A base as `bases add` takes it; default: one that suits the task.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the service; default: the global one.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows.", min=1)] = None,
) -> None:
    """Run the main job: upload, fine-tune, compare with the base, ask the model, download the adapter."""
    session = session_of(context)
    rows = TICKETS if data is None else DemoRows(data, heldout, task, method)
    for file in (rows.training, rows.heldout):
        if file is not None and not file.is_file():
            raise CommandError(f"There is no file {file}.")
    if data_dir is not None:
        session = replace(session, data_dir=data_dir)
    clock = _Clock()
    begun = time.monotonic()
    with service(session) as (client, is_ours):
        clock.phases.append(("start of the service", time.monotonic() - begun))
        print(f"Service {'started' if is_ours else 'found'} at {client.connection.base_url}")
        with clock.phase("base model"):
            source = find_source(base or rows.suitable_base, base_id=None, licence=None)
            added = add_base(client, source, session.data_dir.resolve() / "bases")
            print(f"{added['id']} ({added['licence']}) is registered")
        job = _tune(client, str(added["id"]), rows, epochs, clock)
        _compare(job)
        with clock.phase("a question to the tuned model"):
            _ask(client, job, rows)
        with clock.phase("download of the adapter"):
            archive = session.data_dir.resolve() / "adapters" / archive_name(str(job["fine_tuned_model"]))
            saved = download_adapter(client, str(job["fine_tuned_model"]), archive)
            print(f"{saved.path}  {size_text(saved.bytes)}")
        stopping = time.monotonic()
    clock.phases.append(("stop of the service", time.monotonic() - stopping))
    print("\n== times")
    clock.print()
    _print_next_steps(session.data_dir, job, archive, is_ours=is_ours)


def _tune(client: Client, base: str, rows: DemoRows, epochs: int | None, clock: _Clock) -> dict[str, Any]:
    """Upload, submit, follow; the job, which succeeded."""
    with clock.phase("upload"):
        training = upload(client, rows.training)["id"]
        validation = None if rows.heldout is None else upload(client, rows.heldout)["id"]
        print(f"training rows {training}, held-out rows {validation or 'split off by the service'}")
    print("\n== fine-tuning and evaluation", flush=True)
    body = {
        "model": base,
        "training_file": training,
        "validation_file": validation,
        "task": rows.task,
        "suffix": "demo",
        "seed": _SEED,
    }
    begun = time.monotonic()
    job = submit(client, body, {"n_epochs": epochs}, method=rows.method)
    job, milestones = watch(client, str(job["id"]))
    names = {"validating_files": "validation", "queued": "waiting for a worker", "running": "training"}
    moments = [*(m for m in milestones if m.name in {*names, "evaluation"})]
    ends = [*(m.at for m in moments[1:]), time.monotonic()]
    starts = [begun, *(m.at for m in moments[1:])]
    for milestone, start, end in zip(moments, starts, ends, strict=True):
        clock.phases.append((names.get(milestone.name, milestone.name), end - start))
    if job["status"] != "succeeded":
        error = job.get("error") or {}
        raise CommandError(f"{job['id']} {job['status']}. {error.get('message') or ''}".strip())
    return job


def _compare(job: dict[str, Any]) -> None:
    evaluation = job.get("evaluation")
    if not evaluation:
        raise CommandError(f"{job['id']} succeeded without an evaluation. Its events say why: tunesmith jobs events")
    print("\n== base beside tuned", flush=True)
    print_comparison(evaluation)
    print_samples(evaluation["samples"])


def _ask(client: Client, job: dict[str, Any], rows: DemoRows) -> None:
    """A held-out question, answered as it is generated."""
    messages = rows.question(job)
    print(f"  > {shorten(messages[-1]['content'], 160)}")
    print("  ", end="", flush=True)
    print_answer(stream_answer(client, str(job["fine_tuned_model"]), messages, temperature=0, max_completion_tokens=64))


def _print_next_steps(data_dir: Path, job: dict[str, Any], archive: Path, *, is_ours: bool) -> None:
    start = f"{program()} up --data-dir {data_dir}    # starts the service again, with everything in it\n  "
    where = "peft and vLLM unchanged" if job["task"] == "chat" else "peft, as the documentation shows"
    print(
        f"""
The adapter is yours: {archive}
It loads in {where}. To go on:
  {start if is_ours else ""}{program()} chat {job["fine_tuned_model"]} "My parcel never came"
  {program()} train YOUR_ROWS.jsonl --base {job["model"]} --watch
"""
    )
