"""`tunesmith jobs` and `tunesmith train`: submit, look, follow, steer."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.download import download
from app.cli.errors import CommandError
from app.cli.files import upload
from app.cli.report import print_comparison, print_outcome
from app.cli.session import duration_text, session_of
from app.cli.tasks import AdapterName, MethodName, TaskName
from app.cli.watch import watch

jobs = typer.Typer(help="Fine-tuning jobs.", no_args_is_help=True)
_PATH = "/v1/fine_tuning/jobs"
_BASES_OF_FORECAST = {
    "free_worker": "a worker is free",
    "simulation": "by what earlier jobs of these bases took",
    "average": "by the mean length of the jobs before",
}


JobId = Annotated[str, typer.Argument(help="ftjob-…")]


def train(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help="Training rows, JSON lines.")],
    base: Annotated[str, typer.Option(help="Id of a base, or of a fine-tuned model to go on from.")],
    validation: Annotated[Path | None, typer.Option(help="Held-out rows; default: split off by the service.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Becomes part of the model's name.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Default: chosen by the service.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step; default: chosen by the service.")] = None,
    learning_rate_multiplier: Annotated[float | None, typer.Option(help="Default: chosen by the service.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same run.")] = None,
    task: Annotated[TaskName | None, typer.Option(help="Default: inferred from the rows.", show_default=False)] = None,
    method: Annotated[MethodName, typer.Option(help="dpo learns from pairs of answers.")] = MethodName.SUPERVISED,
    beta: Annotated[float | None, typer.Option(help="With dpo: how strongly it is held to its start.")] = None,
    adapter: Annotated[
        AdapterName | None, typer.Option(help="none trains every weight. Default: lora.", show_default=False)
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Of the adapter; default: chosen by the service.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The rate itself, in place of a multiplier.")] = None,
    follow: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow it to its end.")] = False,
) -> None:
    """Upload a file and start a fine-tuning job on it."""
    session = session_of(context)
    if beta is not None and method is not MethodName.DPO:
        raise CommandError("--beta is a setting of preference tuning: add --method dpo.")
    hyperparameters = {
        "n_epochs": epochs,
        "batch_size": batch_size,
        "learning_rate_multiplier": learning_rate_multiplier,
        "beta": beta,
    }
    settings = {"adapter": adapter, "rank": rank, "learning_rate": learning_rate}
    training = {name: value for name, value in settings.items() if value is not None}
    with session.client() as client:
        job = submit(
            client,
            {
                "model": base,
                "training_file": upload(client, file)["id"],
                "validation_file": None if validation is None else upload(client, validation)["id"],
                "suffix": suffix,
                "seed": seed,
                "task": task,
                "training": training or None,
            },
            hyperparameters,
            method=method,
        )
        if not follow:
            session.show(job)
            return
        print(f"job {job['id']}; Ctrl-C stops the watching, not the job")
        _finish(watch(client, job["id"])[0])


def submit(
    client: Client, body: dict[str, Any], hyperparameters: dict[str, Any], *, method: str = "supervised"
) -> dict[str, Any]:
    """POST the job; whatever is None is left to the service."""
    chosen = {name: value for name, value in hyperparameters.items() if value is not None}
    body = {**body, "method": {"type": method, method: {"hyperparameters": chosen}}}
    answer: dict[str, Any] = client.post(_PATH, {name: value for name, value in body.items() if value is not None})
    return answer


@jobs.command("list")
def list_command(
    context: typer.Context, limit: Annotated[int, typer.Option(help="Newest first, at most so many.", min=1)] = 20
) -> None:
    """Your team's jobs."""
    session = session_of(context)
    with session.client() as client:
        columns = ("id", "status", "task", "model", "fine_tuned_model", "created_at")
        session.show_list(client.pages(_PATH, most=limit), columns, nothing="No jobs yet.")


@jobs.command("show")
def show_command(context: typer.Context, job_id: JobId) -> None:
    """Everything about a job."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.get(f"{_PATH}/{job_id}"))


@jobs.command("watch")
def watch_command(context: typer.Context, job_id: JobId) -> None:
    """Follow a job to its end; exit code 1 if it does not succeed."""
    with session_of(context).client() as client:
        _finish(watch(client, job_id)[0])


@jobs.command("queue")
def queue_command(context: typer.Context, job_id: JobId) -> None:
    """Where a job stands, why it waits, and when it should start."""
    session = session_of(context)
    with session.client() as client:
        place = client.get(f"{_PATH}/{job_id}/queue")
    if session.as_json:
        session.show(place)
        return
    if place["position"] is not None:
        print(
            f"number {place['position']} in the queue, behind {place['own_jobs_before']} of your team and "
            f"{place['other_jobs_before']} of others"
        )
    print(place["reason"])
    if place["estimated_start"] is not None:
        seconds = max(0.0, place["estimated_start"] - time.time())
        print(f"It should start in {duration_text(seconds)} ({_BASES_OF_FORECAST[place['estimated_start_basis']]}).")
    elif place["estimated_start_reason"] is not None:
        print(f"When it starts cannot be said: {place['estimated_start_reason']}")


@jobs.command("events")
def events_command(
    context: typer.Context, job_id: JobId, limit: Annotated[int, typer.Option(help="The newest.", min=1)] = 100
) -> None:
    """What happened to a job, oldest first."""
    session = session_of(context)
    with session.client() as client:
        events = list(client.pages(f"{_PATH}/{job_id}/events", most=limit))[::-1]
    session.show_list(events, ("created_at", "level", "message"), nothing="No events yet.")


@jobs.command("metrics")
def metrics_command(context: typer.Context, job_id: JobId) -> None:
    """The figures of each step."""
    session = session_of(context)
    with session.client() as client:
        rows = list(_metrics(client, job_id))
    columns = ("step", "train_loss", "train_mean_token_accuracy", "valid_loss", "selection_score", "learning_rate")
    session.show_list(rows, columns, nothing="No metrics yet.")


@jobs.command("report")
def report_command(
    context: typer.Context,
    job_id: JobId,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: JOB_ID.html here.")] = None,
) -> None:
    """Save the evaluation as one HTML page and say its result."""
    session = session_of(context)
    with session.client() as client:
        evaluation = client.get(f"{_PATH}/{job_id}/evaluation")
        if session.as_json:
            session.show(evaluation)
            return
        target = output or Path(f"{job_id}.html")
        saved = download(client, f"{_PATH}/{job_id}/evaluation/report", target)
    print_comparison(evaluation)
    print(f"\n{saved.path}")


@jobs.command("cancel")
def cancel_command(context: typer.Context, job_id: JobId) -> None:
    """End a job; its last checkpoint stays."""
    _steer(context, job_id, "cancel")


@jobs.command("pause")
def pause_command(context: typer.Context, job_id: JobId) -> None:
    """Halt a job at a checkpoint and free its GPU."""
    _steer(context, job_id, "pause")


@jobs.command("resume")
def resume_command(context: typer.Context, job_id: JobId) -> None:
    """Put a paused job back into the queue."""
    _steer(context, job_id, "resume")


def _metrics(client: Client, job_id: str) -> Iterator[dict[str, Any]]:
    """The figures of each step, oldest first, page by page."""
    after_step: int | None = None
    has_more = True
    while has_more:
        page = client.get(f"{_PATH}/{job_id}/metrics", after_step=after_step)
        yield from (row["figures"] for row in page["data"])
        has_more, after_step = page["has_more"], page["last_step"]


def _steer(context: typer.Context, job_id: str, verb: str) -> None:
    session = session_of(context)
    with session.client() as client:
        job = client.post(f"{_PATH}/{job_id}/{verb}")
        if session.as_json:
            session.show(job)
        else:
            print(f"{job['id']} is {job['status']}")


def _finish(job: dict[str, Any]) -> None:
    """Say how it ended; `CommandError` if it did not succeed."""
    if job["status"] != "succeeded":
        error = job.get("error") or {}
        raise CommandError(f"{job['id']} {job['status']}. {error.get('message') or ''}".strip())
    print_outcome(job)
