"""The training loop: turns of a seat on a resident base, read from top to bottom.

`take_turn` is all that a run does; `seating` gives turns to the seats that share a base.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch

from app.contracts.errors import WorkerFailure, fatal, usage
from app.contracts.reports import Checkpoint, Finished, Metric, Progress, Report, Stopped
from app.contracts.specs import TrainSpec
from workers.engine.base_model import Family, ResidentBase
from workers.engine.recipes.recipe import Score
from workers.engine.training import batches, checkpoint
from workers.engine.training.adapter_files import weights_sha256
from workers.engine.training.lora import activate
from workers.engine.training.opening import open_seat
from workers.engine.training.schedule import learning_rate
from workers.engine.training.seats import DEADLINE, Seat, StopRequestedError

StopReason = Literal["cancel", "pause", "preempt", "shutdown", "crowded"]


@dataclass(frozen=True)
class Validation:
    """Figures over a set of rows, weighted by what is supervised; the same for any batch size."""

    loss: float
    token_accuracy: float
    score: Score


def train(
    resident: ResidentBase,
    spec: TrainSpec,
    report: Callable[[Report], None],
    should_stop: Callable[[], str | None],
) -> None:
    """One training run, from rows on disk to the reported adapter. Failures are `WorkerFailure`s."""
    try:
        seat = open_seat(resident, spec, report, should_stop)
    except StopRequestedError as stop:
        report(Stopped(run_id=spec.run_id, reason=cast("StopReason", stop.reason), step=0))
        return
    while take_turn(resident, seat):
        pass


def take_turn(resident: ResidentBase, seat: Seat) -> bool:
    """The next thing a seat has to do: what is left of its last step, its end, or a step. False when it is over."""
    try:
        if seat.is_validation_pending:
            _validate(resident, seat)
            _save(seat, resident.family)  # again: what was stopped before its validation lacks what that found
        if seat.is_finished:
            _finish(seat)
            return False
        take_step(resident, seat)
    except StopRequestedError as stop:
        leave(resident, seat, stop.reason)
        return False
    return True


def take_step(resident: ResidentBase, seat: Seat) -> None:
    """One optimizer step of one seat: batch, gradients, update, metric, validation, checkpoint."""
    spec, adapter = seat.spec, seat.adapter
    started = time.monotonic()

    # The rows of this step, packed. What they supervise together is the loss's denominator.
    rows = batches.step_rows(seat.rows, step=seat.step, batch_size=spec.batch_size, seed=spec.seed)
    micro_batches = seat.recipe.pack(rows, seat.token_budget)
    supervised = sum(batch.count for batch in micro_batches)
    tokens = sum(batch.row_tokens for batch in micro_batches)

    # Gradients, summed into the fp32 buffer over the micro-batches.
    adapter.zero_grad()
    figures = torch.zeros(3, dtype=torch.float32, device=resident.device)  # nll, correct, gradient norm
    for index, batch in enumerate(micro_batches):
        seat.poll_stop()
        with activate(resident.linears, adapter, dropout_key=(spec.seed, seat.step, index)):
            loss = seat.recipe.loss(batch.to(resident.device), adapter)
            torch.autograd.backward(loss.nll_sum / supervised)
        figures[0] += loss.nll_sum.detach()
        figures[1] += loss.correct

    # One look at the numbers before they are used: a diverged run must not spoil the weights.
    gradient = adapter.gradient
    figures[2] = torch.linalg.vector_norm(gradient)
    nll, correct, grad_norm = figures.tolist()
    if not (math.isfinite(nll) and math.isfinite(grad_norm)):
        raise _diverged(spec, f"The training loss is not a finite number at step {seat.step + 1}")
    if seat.step == 0 and grad_norm == 0.0:
        raise fatal("no_gradient", "No gradient reaches the adapter: its layers are not part of the forward pass.")

    # Clip by the global norm, set the rate, update, cast the compute copies.
    seat.is_whole = False
    gradient.mul_(min(1.0, spec.optimizer.max_grad_norm / (grad_norm + 1e-6)))
    rate = learning_rate(spec.optimizer, step=seat.step, total_steps=seat.total_steps)
    seat.optimizer.param_groups[0]["lr"] = rate
    seat.optimizer.step()
    adapter.refresh()

    # The step is done: account for it.
    seconds = time.monotonic() - started
    seat.step += 1
    seat.calibrate(None)
    seat.trained_tokens += tokens
    seat.train_seconds += seconds
    pace = (time.monotonic() - seat.opened_at) / (seat.step - seat.opened_at_step)
    seat.last_metric = Metric(
        run_id=spec.run_id,
        step=seat.step,
        total_steps=seat.total_steps,
        epoch=seat.step / seat.steps_per_epoch,
        train_loss=nll / supervised,
        train_mean_token_accuracy=correct / supervised,
        learning_rate=rate,
        grad_norm=grad_norm,
        tokens=tokens,
        trained_tokens=seat.trained_tokens,
        step_seconds=seconds,
        eta_seconds=pace * (seat.total_steps - seat.step),
    )
    seat.is_validation_pending = _is_validation_due(seat)
    seat.is_whole = True
    if seat.is_validation_pending:
        _validate(resident, seat)
    else:
        seat.report_metric()
    is_old = time.monotonic() - seat.saved_at >= spec.resume_checkpoint_seconds
    if seat.is_epoch_end or seat.is_finished or is_old:
        _save(seat, resident.family)


@torch.no_grad()
def judge(resident: ResidentBase, seat: Seat, rows: Sequence[Any]) -> Validation:
    """Loss, accuracy and score of the seat's adapter as it is now."""
    figures = torch.zeros(2, dtype=torch.float64, device=resident.device)
    supervised = 0
    judged = []
    packs = seat.recipe.pack(rows, seat.token_budget)
    for index, batch in enumerate(packs):
        seat.poll_stop()
        with activate(resident.linears, seat.adapter):
            loss = seat.recipe.loss(batch.to(resident.device), seat.adapter)
        figures += torch.stack((loss.nll_sum, loss.correct))
        supervised += loss.count
        judged.append((batch.rows, loss.outputs))
        if len(packs) > 1:
            seat.report(Progress(run_id=seat.spec.run_id, phase="evaluate", done=index + 1, total=len(packs)))
    nll, correct = figures.tolist()
    if not math.isfinite(nll):
        raise _diverged(seat.spec, f"The validation loss is not a finite number after step {seat.step}")
    loss_score = Score("negative_loss", -nll / supervised)
    return Validation(nll / supervised, correct / supervised, seat.recipe.score(judged) or loss_score)


def _is_validation_due(seat: Seat) -> bool:
    every = seat.spec.valid_every_steps
    return bool(seat.valid_rows) and (seat.is_epoch_end or (every is not None and seat.step % every == 0))


def _validate(resident: ResidentBase, seat: Seat) -> None:
    """Validate after the last finished step and report its metric with the figures filled in.

    A fixed subset of the rows, and all of them where the step is a candidate for the result: at an epoch's end,
    or where this very check ends the run. Stopped half-way it stays pending, and is done again when the run resumes.
    """
    rule = seat.spec.early_stopping
    shown = judge(resident, seat, _subset(seat, seat.valid_rows))
    has_own_rows = seat.selection_rows is not seat.valid_rows
    check = judge(resident, seat, _subset(seat, seat.selection_rows)) if has_own_rows and rule is not None else shown
    figures: dict[str, Any] = {"valid_loss": shown.loss, "valid_mean_token_accuracy": shown.token_accuracy}
    candidate = None
    if seat.is_epoch_end or seat.selection.ends_run(check.loss, rule):
        full = judge(resident, seat, seat.valid_rows)
        candidate = judge(resident, seat, seat.selection_rows).score if has_own_rows else full.score
        figures |= {"full_valid_loss": full.loss, "full_valid_mean_token_accuracy": full.token_accuracy}
        figures |= {"selection_score": candidate.value, "selection_score_name": candidate.name}
    # From here on nothing can cut it short.
    seat.selection.see_check(check.loss, rule)
    if candidate is not None:
        seat.selection.see_candidate(seat.step, candidate)
        seat.calibrate(candidate.calibration)
    seat.last_metric = cast("Metric", seat.last_metric).model_copy(update=figures)
    seat.is_validation_pending = False
    seat.report_metric()


def _subset(seat: Seat, rows: Sequence[Any]) -> list[Any]:
    """The rows of a check between epochs: always the same ones."""
    order = batches.epoch_order(len(rows), seed=seat.spec.seed, epoch=-1)
    return [rows[index] for index in order[: seat.spec.valid_rows_per_check]]


def _diverged(spec: TrainSpec, what: str) -> WorkerFailure:
    return usage(
        "loss_diverged",
        f"{what}. Lower the learning rate (now {spec.optimizer.learning_rate:g}) or look for broken rows.",
        param="learning_rate_multiplier",
    )


def _save(seat: Seat, family: Family) -> None:
    """Write a checkpoint and report it; never one whose weights are not numbers."""
    if not bool(torch.isfinite(seat.adapter.flat).all()):
        raise _diverged(seat.spec, f"The weights are not finite numbers after step {seat.step}")
    seat.is_whole = False
    folder = seat.save(family)
    seat.is_whole = True
    seat.report(
        Checkpoint(
            run_id=seat.spec.run_id,
            step=seat.step,
            path=str(folder.path),
            manifest_sha256=folder.manifest_sha256,
            is_epoch_end=seat.step in seat.epoch_end_steps,
            is_final=seat.is_finished and not seat.is_validation_pending and seat.result_step == seat.step,
            trained_tokens=seat.trained_tokens,
            last_metric=seat.last_metric,
        )
    )


def leave(resident: ResidentBase, seat: Seat, reason: str) -> None:
    """Checkpoint the last finished step, if it is not on disk yet, and say so.

    Usage failure `deadline_exceeded`, after the checkpoint, when it was the deadline that ended the run.
    """
    if seat.is_validation_pending:
        seat.report_metric()
    if seat.step > seat.saved_step:
        _save(seat, resident.family)
    if reason == DEADLINE:
        raise usage(
            "deadline_exceeded",
            f"The run's time of {seat.spec.deadline_seconds:.0f} seconds is over after step {seat.step} "
            f"of {seat.total_steps}. Train on fewer rows or epochs, or ask for a longer limit.",
        )
    seat.report(Stopped(run_id=seat.spec.run_id, reason=cast("StopReason", reason), step=seat.step))


def _finish(seat: Seat) -> None:
    """Name the checkpoint that holds the result; make sure that training changed it."""
    if not seat.adapter.has_moved:
        raise fatal("weights_did_not_move", "Training ended but the weights are those it began with.")
    step = seat.result_step
    adapter_path = checkpoint.step_folder(seat.checkpoints, step) / "adapter"
    seat.report(
        Finished(
            run_id=seat.spec.run_id,
            step=step,
            steps_done=seat.step,
            ended_early=seat.step < seat.total_steps,
            reason=seat.selection.reason(step=step, steps_done=seat.step, total_steps=seat.total_steps),
            adapter_path=str(adapter_path),
            adapter_sha256=weights_sha256(adapter_path),
            trained_tokens=seat.trained_tokens,
            train_loss=cast("Metric", seat.last_metric).train_loss,
            train_seconds=seat.train_seconds,
        )
    )
