"""What a job will take, said before it starts: at the door from the file's bytes, then from its rows."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.bases.schemas import base_kind
from app.bases.tasks import misfit
from app.contracts.specs import Recipe
from app.datasets.split import MAX_SELECTION_ROWS, MIN_ROWS_FOR_SELECTION, SELECTION_FRACTION, heldout_count
from app.db.tables import BaseModelRow, Job
from app.jobs.hyperparameters import Resolved, RunFacts, resolve
from app.jobs.memory_estimate import BASIS, memory_bytes
from app.jobs.recommended import HIGHER_RANK
from app.jobs.repository import JobRepository
from app.recent import Recent
from app.usage.devices import device_kind
from app.usage.forecast import error_percent, gpu_seconds, likely_device, tokens_per_byte
from app.usage.quotes import Quotes
from app.usage.schemas import Amount, JobUsageObject

ASSUMED_EPOCHS = 3
# Of a file that is asked about; the rest is taken to be like it.
HEAD_BYTES = 4 * 1024 * 1024


class EstimateObject(BaseModel):
    """What is expected. Each figure that is not known is null, and its basis says why."""

    object: Literal["fine_tuning.job.estimate"] = "fine_tuning.job.estimate"
    model: str
    base_model: str
    based_on: Literal["bytes", "rows", "validated_files"]
    rows: int | None = Field(description="that train; others are held out or choose the checkpoint")
    n_epochs: int
    batch_size: int | None
    steps: int | None
    tokens: int = Field(description="of all epochs")
    tokens_basis: str
    gpu_seconds: float | None
    gpu_seconds_basis: str
    device_kind: str | None
    memory_bytes: int
    memory_basis: str
    energy_wh: float | None
    cost: Amount | None


class QuotedVsBilledObject(BaseModel):
    """How far the estimate was off, in percent of what was used: above 0 it was too high."""

    gpu_seconds_percent: float | None
    tokens_percent: float | None
    cost_percent: float | None


@dataclass(frozen=True)
class Plan:
    """What is known of a run when it is estimated."""

    model_id: str
    base: BaseModelRow
    file_bytes: int
    requested: Mapping[str, Any]
    training: Mapping[str, Any]
    based_on: Literal["bytes", "rows", "validated_files"] = "bytes"
    rows: int | None = None
    row_share: float = 1.0
    """Of the file's bytes that train."""
    resolved: Resolved | None = None


class JobEstimates:
    def __init__(self, repository: JobRepository, quotes: Quotes, recent: Recent) -> None:
        self._recent = recent
        self._repository = repository
        self._quotes = quotes

    def make(self, plan: Plan, devices: Collection[Mapping[str, Any]]) -> EstimateObject:
        """`devices` are those of the workers that live."""
        base_id = plan.base.id
        earlier = self._recent.get(("earlier jobs", base_id), lambda: self._repository.earlier_jobs(base_id))
        ratio = tokens_per_byte(earlier)
        n_epochs = _epochs(plan)
        tokens = plan.file_bytes * plan.row_share * (ratio.value or 0.0) * n_epochs
        device = likely_device(earlier, {device_kind(one) for one in devices})
        seconds = gpu_seconds(earlier, device, tokens)
        cost = self._quotes.cost(device, seconds.value, tokens)
        settings = plan.training if plan.resolved is None else plan.resolved.training
        rank = settings["rank"] if isinstance(settings["rank"], int) else HIGHER_RANK
        known = device is not None and seconds.value is not None
        return EstimateObject(
            model=plan.model_id,
            base_model=plan.base.id,
            based_on=plan.based_on,
            rows=plan.rows,
            n_epochs=n_epochs,
            batch_size=None if plan.resolved is None else plan.resolved.batch_size,
            steps=None if plan.resolved is None else plan.resolved.total_steps,
            tokens=round(tokens),
            tokens_basis=ratio.basis,
            gpu_seconds=None if seconds.value is None else round(seconds.value, 1),
            gpu_seconds_basis=seconds.basis,
            device_kind=device,
            memory_bytes=memory_bytes(
                parameters=plan.base.parameters,
                rank=None if settings["adapter"] == "none" else rank,
                is_4_bit=settings["quantization"] == "nf4",
                device_kind=device,
            ),
            memory_basis=BASIS,
            energy_wh=round(self._quotes.energy_wh(device or "", seconds.value or 0.0), 2) if known else None,
            cost=None if cost is None else Amount(value=float(cost), currency=self._quotes.currency),
        )


def plan_of_rows(plan: Plan, rows: int, recipe: Recipe | None, *, has_validation_file: bool) -> Plan:
    """With the numbers that so many rows of the file would get. As it was, if the base cannot learn such rows."""
    kind = base_kind(plan.base)
    named: Recipe = recipe or "chat"
    if rows < 2 or misfit(named, kind, plan.base.id) is not None:
        return plan
    rest = rows if has_validation_file else rows - heldout_count(rows)
    chooses = rest >= MIN_ROWS_FOR_SELECTION
    selection = min(MAX_SELECTION_ROWS, round(SELECTION_FRACTION * rest)) if chooses else 0
    facts = RunFacts(
        recipe=named,
        kind=kind,
        base_parameters=plan.base.parameters,
        context_length=plan.base.context_length,
        train_rows=rest - selection,
        choosing_rows=selection,
    )
    resolved = resolve(plan.requested, plan.training, facts)
    return Plan(
        model_id=plan.model_id,
        base=plan.base,
        file_bytes=plan.file_bytes,
        requested=plan.requested,
        training=plan.training,
        based_on="rows",
        rows=rest - selection,
        row_share=(rest - selection) / rows,
        resolved=resolved,
    )


def count_rows(chunks: Iterator[bytes], total_bytes: int) -> int:
    """Lines that hold anything: counted in the first `HEAD_BYTES`, and as dense in the rest."""
    read, lines, began = 0, 0, False
    for chunk in chunks:
        read += len(chunk)
        pieces = chunk.split(b"\n")
        for number, piece in enumerate(pieces):
            began = began or bool(piece.strip())
            if number < len(pieces) - 1:
                lines, began = lines + began, False
        if read >= HEAD_BYTES:
            break
    if read >= total_bytes:
        return lines + began
    return round(lines * total_bytes / read) if read else 0


def quoted_vs_billed(job: Job, usage: JobUsageObject | None) -> QuotedVsBilledObject | None:
    """None until the job has ended, and for jobs without an estimate."""
    if job.finished_at is None or usage is None or job.estimate is None:
        return None
    quoted = EstimateObject.model_validate(job.estimate)
    return QuotedVsBilledObject(
        gpu_seconds_percent=error_percent(quoted.gpu_seconds, usage.gpu_seconds),
        tokens_percent=error_percent(quoted.tokens, usage.tokens),
        cost_percent=None if quoted.cost is None else error_percent(quoted.cost.value, usage.cost.value),
    )


def _epochs(plan: Plan) -> int:
    if plan.resolved is not None:
        return plan.resolved.n_epochs
    asked = plan.requested["n_epochs"]
    return ASSUMED_EPOCHS if asked == "auto" else int(asked)
