"""`tunesmith estimate`: what a job would take, before it is made."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.files import upload
from app.cli.session import duration_text, session_of, size_text
from app.cli.tasks import MethodName, TaskName

_FILE_LIVES_SECONDS = 3600


def estimate(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help="Training rows.")],
    base: Annotated[str, typer.Option(help="Id of a base, or of a fine-tuned model to go on from.")],
    epochs: Annotated[int | None, typer.Option(help="Default: chosen by the service.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: chosen by the service.")] = None,
    task: Annotated[TaskName | None, typer.Option(help="Default: inferred from the rows.", show_default=False)] = None,
    method: Annotated[MethodName, typer.Option(help="dpo learns from pairs of answers.")] = MethodName.SUPERVISED,
) -> None:
    """Tokens, time, memory and cost of a job that is not made. The file is uploaded for an hour."""
    session = session_of(context)
    chosen = {"n_epochs": epochs, "batch_size": batch_size}
    hyperparameters = {name: value for name, value in chosen.items() if value is not None}
    with session.client() as client:
        file_id = upload(client, file, expires_after_seconds=_FILE_LIVES_SECONDS)["id"]
        body: dict[str, Any] = {
            "model": base,
            "training_file": file_id,
            "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        }
        if task is not None:
            body["task"] = task
        found = client.post("/v1/fine_tuning/jobs/estimate", body)
    session.show(found if session.as_json else _in_words(found))


def _in_words(found: dict[str, Any]) -> dict[str, Any]:
    seconds, cost = found["gpu_seconds"], found["cost"]
    return {
        "rows": found["rows"],
        "epochs": found["n_epochs"],
        "steps": found["steps"],
        "tokens": f"{found['tokens']} ({found['tokens_basis']})",
        "time": found["gpu_seconds_basis"]
        if seconds is None
        else f"{duration_text(seconds)} ({found['gpu_seconds_basis']})",
        "memory": f"{size_text(found['memory_bytes'])} ({found['memory_basis']})",
        "energy": None if found["energy_wh"] is None else f"{found['energy_wh']:.1f} Wh (estimate)",
        "cost": "unknown, as the time is" if cost is None else f"{cost['value']:.4g} {cost['currency'].upper()}",
    }
