"""What events say. Clients search for OpenAI's sentences, so those stand here word for word."""

import math
from typing import Any

from app.contracts.reports import Encoded, Evaluation, LearningCurve, Metric, ModelScores

QUEUED = "Files validated, moving job to queued state"
STARTED = "Fine-tuning job started"
SUCCEEDED = "The job has successfully completed"
CANCELLED = "Fine-tuning job cancelled"
PAUSED = "Fine-tuning job paused"
RESUMED = "Fine-tuning job resumed"
GOES_ON = "Fine-tuning job goes on"
REQUEUED = "The worker let go of the job; it waits in the queue"
CROWDED = (
    "The GPU's memory is too small for all jobs that shared it. This one makes way: it waits in the queue and goes on "
    "from its last checkpoint, with a GPU of its own"
)
RIDES_ALONE = ". It shared its GPU, and has one of its own from now on"
EVALUATION_CANCELLED = "Evaluation cancelled"
_MAX_NAMED_ROWS = 10


def created(job_id: str) -> str:
    return f"Created fine-tuning job: {job_id}"


def validating(training_file: str, validation_file: str | None) -> str:
    also = "" if validation_file is None else f" and validation file: {validation_file}"
    return f"Validating training file: {training_file}{also}"


def stopped_by_budget(said: str) -> str:
    return f"{PAUSED} by the team's budget, its checkpoint is kept: {said}. Resume it when there is room again."


def budget_warned(said: str) -> str:
    return f"The team's budget is nearly used up: {said}. At its end, jobs are paused."


def evaluating(model_id: str, file_id: str, against: str) -> str:
    return f"Evaluating {model_id} on {file_id}, beside {against}"


def begun(*, is_evaluation: bool, is_first: bool, attempt: int) -> str:
    if is_first:
        return "Evaluation started" if is_evaluation else STARTED
    return f"{'Evaluation' if is_evaluation else 'Fine-tuning job'} continued (attempt {attempt})"


def integrations_stored(kinds: str) -> str:
    return f"Integrations ({kinds}) are stored with the job; this server does not send to them"


def checkpoint_created(step: int, model_id: str) -> str:
    return f"Checkpoint created at step {step} with Snapshot ID: {model_id}"


def model_created(model_id: str) -> str:
    return f"New fine-tuned model created: {model_id}"


def step(metric: Metric) -> str:
    """As OpenAI's: `Step 10/300: training loss=0.42, validation loss=0.50, full validation loss=0.48`."""
    parts = [f"training loss={metric.train_loss:.2f}"]
    if metric.valid_loss is not None:
        parts.append(f"validation loss={metric.valid_loss:.2f}")
    if metric.full_valid_loss is not None:
        parts.append(f"full validation loss={metric.full_valid_loss:.2f}")
    return f"Step {metric.step}/{metric.total_steps}: {', '.join(parts)}"


WIRE_FIGURES = (
    "step",
    "total_steps",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)


def figures(metric: Metric) -> dict[str, Any]:
    """A metric as stored: what is absent or no finite number (JSON has none) is left out."""
    values = metric.model_dump(mode="python", exclude={"kind", "run_id"}, exclude_none=True)
    return {name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def encoded(report: Encoded) -> list[tuple[str, str]]:
    """(level, message) for what encoding did to the rows."""
    size = (
        f"{report.rows_trained} examples, {report.tokens:,} tokens an epoch ({report.supervised_tokens:,} learned); "
        f"{report.total_steps} steps; {report.trainable_parameters:,} trainable parameters"
    )
    said = [("info", size)]
    if report.dropped:
        named = "; ".join(f"line {line}: {reason}" for line, reason in report.dropped[:_MAX_NAMED_ROWS])
        more = len(report.dropped) - _MAX_NAMED_ROWS
        rest = f"; and {more} more" if more > 0 else ""
        said.append(("warn", f"{len(report.dropped)} of {report.rows_in} examples are not trained: {named}{rest}"))
    if report.truncated:
        where = "a conversation loses the beginning of its prompt, any other text its end"
        said.append(("warn", f"{report.truncated} examples are longer than max_length and were cut: {where}"))
    if report.suspect_labels:
        said.append(("warn", _suspects(report)))
    if report.learning_curve is not None:
        said.append(("info", _curve(report.learning_curve)))
    return [*said, *report.notes]


def _curve(curve: LearningCurve) -> str:
    points = ", ".join(f"{accuracy:.0%} from {rows:,} rows" for rows, accuracy in curve.points)
    more = (
        f"About {curve.rows_for_a_point:,} more rows like these would add a point"
        if curve.rows_for_a_point is not None
        else "Ten times the rows would not add a point: better labels, or another base, might"
    )
    return (
        f"What rows bring here: a simple classifier on the frozen base is right in {points}, judged on "
        f"{curve.judged_rows:,} others. {more}"
    )


def _suspects(report: Encoded) -> str:
    named = "; ".join(
        f"line {one.line} says {one.label}, likelier is {one.likelier}"
        for one in report.suspect_labels[:_MAX_NAMED_ROWS]
    )
    share = report.suspect_label_count / report.rows_trained
    return (
        f"{report.suspect_label_count} of {report.rows_trained} training labels ({share:.1%}) look wrong to a model "
        f"that has not seen their rows: {named}. All are in the job's encoding.suspect_labels"
    )


def evaluated(report: Evaluation) -> str:
    """Base beside tuned in plain words; of an evaluation without a judgement by the figures of the task."""
    if report.summary:
        return f"Evaluation. {report.summary}"
    base, tuned = _figures(report.base), _figures(report.tuned)
    if base.keys() != tuned.keys():  # the base has no figures of the task
        base, tuned = _losses(report.base), _losses(report.tuned)
    first, *others = base
    also = "; ".join(f"{name} {base[name]} and {tuned[name]}" for name in others)
    return (
        f"Evaluation on {report.rows} held-out examples: {first} {base[first]} with {report.base_is}, {tuned[first]} "
        f"with the fine-tuned model{f' ({also})' if also else ''}"
    )


def made_way(reason: str) -> str:
    return f"The job makes way. {reason} It waits in the queue and goes on from its last checkpoint"


def worker_lost(reason: str, losses: int, max_losses: int, delay_seconds: float) -> str:
    return (
        f"The worker was lost ({reason}), which is not counted as an attempt. It was loss {losses} of {max_losses}; "
        f"the job goes on in {delay_seconds:g} seconds or later, from the last checkpoint if there is one"
    )


def attempt_lost(reason: str, attempts: int, max_attempts: int, delay_seconds: float) -> str:
    return (
        f"The worker stopped unexpectedly ({reason}). Attempt {attempts} of {max_attempts} is lost; "
        f"the next one begins in {delay_seconds:g} seconds or later, from the last checkpoint if there is one"
    )


def _figures(scores: ModelScores) -> dict[str, str]:
    """The figures that tell most of a task, by name; of chat without labels the loss."""
    if scores.classification is not None:
        labels = scores.classification
        return {"accuracy": f"{labels.accuracy:.1%}", "macro-F1": f"{labels.macro_f1:.3f}"}
    if scores.spans is not None:
        return {"span F1": f"{scores.spans.f1:.3f}"}
    if scores.text is not None:
        return {"ROUGE-L": f"{scores.text.rouge_l:.3f}", "ROUGE-1": f"{scores.text.rouge1:.3f}"}
    if scores.preference is not None:
        return {"preferred answers ranked first": f"{scores.preference.accuracy:.1%}"}
    return _losses(scores)


def _losses(scores: ModelScores) -> dict[str, str]:
    return {"loss": f"{scores.loss:.3f}", "token accuracy": f"{scores.token_accuracy:.1%}"}
