"""`tunesmith pool`: the shared workers, who uses what, and for operators draining and limits."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.errors import CommandError
from app.cli.session import duration_text, session_of, size_text

pool = typer.Typer(help="The shared pool of GPUs.", invoke_without_command=True)
_LIMITS = "/v1/organization/projects/{}/limits"
WorkerId = Annotated[str, typer.Argument(help="As `tunesmith pool` names it.")]


@pool.callback()
def show(context: typer.Context) -> None:
    """Workers with what they run, and who uses and waits for how much."""
    if context.invoked_subcommand is not None:
        return
    session = session_of(context)
    with session.client() as client:
        found = client.get("/v1/pool")
    if session.as_json:
        session.show(found)
        return
    columns = ("id", "status", "runs", "gpus", "memory", "capability", "base_in_memory", "heard_from")
    session.show_list([_worker_row(worker) for worker in found["workers"]], columns, nothing="No workers are there.")
    used = found["utilisation"]
    print(f"\n{used['busy']} of {used['gpus']} GPUs are in use.\n")
    of_team = ("team", "running", "queued", "weight", "max_gpus")
    session.show_list(found["queue"], of_team, nothing="Nothing runs and nothing waits.")


@pool.command("drain")
def drain_command(
    context: typer.Context,
    worker_id: WorkerId,
    *,
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint", help="Let go of its job now; it goes on elsewhere. Default: finish it.")
    ] = False,
) -> None:
    """Let a worker claim nothing more (operators)."""
    session = session_of(context)
    with session.client() as client:
        worker = client.post(f"/v1/pool/workers/{worker_id}/drain", {"checkpoint": checkpoint})
    if session.as_json:
        session.show(worker)
    elif not worker["jobs"]:
        print(f"{worker_id} is idle and claims nothing more")
    else:
        its = "its job" if len(worker["jobs"]) == 1 else f"its {len(worker['jobs'])} jobs"
        what = f"checkpoints {its} and lets go" if checkpoint else f"finishes {its}"
        print(f"{worker_id} claims nothing more; it {what}")


@pool.command("resume")
def resume_command(context: typer.Context, worker_id: WorkerId) -> None:
    """Let a drained worker claim again (operators)."""
    session = session_of(context)
    with session.client() as client:
        worker = client.post(f"/v1/pool/workers/{worker_id}/resume")
    if session.as_json:
        session.show(worker)
    else:
        print(f"{worker_id} claims jobs again")


@pool.command("limits")
def limits_command(
    context: typer.Context,
    team_id: Annotated[str, typer.Argument(help="team_…")],
    *,
    weight: Annotated[float | None, typer.Option(help="Of its share of the GPUs; other teams have 1.")] = None,
    max_gpus: Annotated[str | None, typer.Option(help="GPUs in use at once, or none.")] = None,
    max_queued_jobs: Annotated[str | None, typer.Option(help="Jobs not yet running, or none.")] = None,
    may_share: Annotated[
        bool | None, typer.Option("--may-share/--may-not-share", help="One process with others.")
    ] = None,
) -> None:
    """What a team may have of the pool; with an option, set it (operators)."""
    changes: dict[str, Any] = {}
    if weight is not None:
        changes["weight"] = weight
    if may_share is not None:
        changes["may_share"] = may_share
    for name, value in (("max_gpus", max_gpus), ("max_queued_jobs", max_queued_jobs)):
        if value is not None:
            changes[name] = _number_or_none(name, value)
    session = session_of(context)
    with session.client() as client:
        path = _LIMITS.format(team_id)
        session.show(client.post(path, changes) if changes else client.get(path))


def _number_or_none(name: str, value: str) -> int | None:
    if value == "none":
        return None
    try:
        return int(value)
    except ValueError:
        raise CommandError(f"--{name.replace('_', '-')} is a whole number or 'none', not '{value}'.") from None


def _worker_row(worker: Mapping[str, Any]) -> dict[str, Any]:
    memory = worker["memory_bytes"]
    return {
        "id": worker["id"],
        "status": worker["status"],
        "runs": ", ".join(job["id"] or f"a job of {job['team']}" for job in worker["jobs"]) or None,
        "gpus": worker["gpus"],
        "memory": None if memory is None else size_text(memory),
        "capability": worker["compute_capability"],
        "base_in_memory": ", ".join(worker["resident_bases"]) or None,
        "unready": worker["unready"],
        "heard_from": f"{duration_text(worker['last_heard_seconds'])} ago",
    }
