"""What an engine tells its supervisor: one JSON object a line on a pipe."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from app.contracts.base import Contract
from app.contracts.errors import WorkerError
from app.contracts.figures import Calibration, ClassFigures, Confusion, CostDecisions, Figure, Judgement
from app.contracts.requirements import Expectation, RequirementJudgement
from app.contracts.specs import Command

METRIC_LOG = "metrics.jsonl"
"""In the folder of a run's checkpoints: every metric reported, in its order. It outlives whoever should have read the
report, so that a run resumed from a checkpoint on this disk has the figures of all steps before it."""


class Ready(Contract):
    """The engine has imported its libraries and waits for commands."""

    kind: Literal["ready"] = "ready"
    pid: int
    device: str
    dtype: str
    threads: int
    torch: str
    memory_bytes: int
    gpus: int = Field(default=1, description="that it works with; the CPU counts as one")
    compute_capability: int | None = Field(default=None, description="of a GPU of CUDA, 90 for 9.0")


class Progress(Contract):
    """How far a phase is. `total` 0 means not known yet."""

    kind: Literal["progress"] = "progress"
    run_id: str
    phase: Literal["load", "encode", "train", "evaluate"]
    done: int
    total: int
    message: str = ""


class SuspectLabel(Contract):
    """A training row whose label another one fits better."""

    line: int
    label: str = Field(description="that the row bears")
    likelier: str
    confidence: float = Field(description="probability of the label that the row bears, by a model without the row")


class LearningCurve(Contract):
    """What fewer rows would have given, by logistic regressions on the frozen base's features."""

    points: tuple[tuple[int, float], ...] = Field(description="(rows, accuracy on rows kept apart), fewest first")
    judged_rows: int
    rows_for_a_point: int | None = Field(
        description="rows beyond the file's that would add a point of accuracy; null if ten times the rows would not"
    )


class Encoded(Contract):
    """What became of every row: rows_in == rows_trained + len(dropped)."""

    kind: Literal["encoded"] = "encoded"
    run_id: str
    rows_in: int
    rows_trained: int
    dropped: tuple[tuple[int, str], ...] = Field(description="(source line, reason) of rows not trained")
    truncated: int = Field(description="rows whose prompt, text or source was cut to fit")
    tokens: int = Field(description="real tokens of one epoch")
    supervised_tokens: int
    longest: int = Field(description="tokens of the longest row")
    total_steps: int
    trainable_parameters: int
    targets: tuple[str, ...]
    suspect_labels: tuple[SuspectLabel, ...] = Field(default=(), description="the least confident first, 500 at most")
    suspect_label_count: int = 0
    learning_curve: LearningCurve | None = Field(default=None, description="of a classifier with one label a row")
    notes: tuple[tuple[Literal["info", "warn"], str], ...] = Field(
        default=(), description="(level, sentence) the owner should read: memory estimate, what was chosen and why"
    )


class Metric(Contract):
    """Figures of one optimizer step (or, with only valid_* set, of a validation at that step)."""

    kind: Literal["metric"] = "metric"
    run_id: str
    step: int
    total_steps: int
    epoch: float
    train_loss: float
    train_mean_token_accuracy: float
    learning_rate: float
    grad_norm: float
    tokens: int = Field(description="real tokens of this step")
    trained_tokens: int = Field(description="real tokens since the start of the job")
    step_seconds: float
    eta_seconds: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None
    selection_score: float | None = Field(
        default=None, description="of the rows that choose the best checkpoint, higher is better; at epoch ends"
    )
    selection_score_name: str | None = Field(default=None, description="e.g. macro_f1, span_f1, negative_loss")


class Checkpoint(Contract):
    """A complete checkpoint lies in `path`. `is_epoch_end` ones are offered to the user."""

    kind: Literal["checkpoint"] = "checkpoint"
    run_id: str
    step: int
    path: str
    manifest_sha256: str
    is_epoch_end: bool
    is_final: bool
    trained_tokens: int
    last_metric: Metric | None = None


class Finished(Contract):
    """Training is over; `adapter_path` holds the final adapter in PEFT's format."""

    kind: Literal["finished"] = "finished"
    run_id: str
    step: int = Field(description="the step whose adapter is the result: the best one, or the last")
    steps_done: int = Field(description="optimizer steps taken in all")
    ended_early: bool = Field(default=False, description="early stopping ended the run before its last step")
    reason: str = Field(default="", description="why this step's adapter is the result, in a sentence")
    adapter_path: str
    adapter_sha256: str
    trained_tokens: int
    train_loss: float
    train_seconds: float


class Stopped(Contract):
    """The run ended early because it was told to; a checkpoint was reported before if a step was done.

    `crowded`: nobody told it to. The device's memory is too small for all runs together, and this one was to leave.
    """

    kind: Literal["stopped"] = "stopped"
    run_id: str
    reason: Literal["cancel", "pause", "preempt", "shutdown", "crowded"]
    step: int


class Failed(Contract):
    """The run ended with an error; the engine itself lives on unless it says `engine_lost`."""

    kind: Literal["failed"] = "failed"
    run_id: str
    error: WorkerError
    engine_lost: bool = False


class ClassScores(Contract):
    """Scores of predicted labels; generated answers are matched to them (exact after strip and casefold).

    Of a multi-label task `accuracy` is the share of texts whose set of labels is right.
    """

    accuracy: float
    macro_f1: float
    correct: int
    n: int
    unmatched: int = Field(description="answers that are no label at all; counted as wrong")


class SpanScores(Contract):
    """Strict entity scores: a span counts when start, end and label are right (CoNLL's rule)."""

    precision: float
    recall: float
    f1: float = Field(description="micro, over all spans")
    f1_by_label: dict[str, float]
    expected: int
    predicted: int
    correct: int


class TextScores(Contract):
    """Mean ROUGE F1 of generated texts (Lin 2004), tokens of a-z and 0-9 in lower case, no stemming."""

    rouge1: float
    rouge2: float
    rouge_l: float
    length_ratio: float = Field(description="words written / words of the references, summed over rows")
    n: int


class PreferenceScores(Contract):
    """How often the preferred answer is the likelier one, against the reference model."""

    accuracy: float
    margin: float = Field(description="mean reward of the preferred answer minus that of the other, in nats x beta")
    n: int


class Latency(Contract):
    """Milliseconds, batch of one, after warm-up, on the device that evaluated.

    A model that writes no text has only the end-to-end times.
    """

    n: int
    time_to_first_token_ms_p50: float | None = None
    time_to_first_token_ms_p95: float | None = None
    tokens_per_second_p50: float | None = None
    end_to_end_ms_p50: float
    end_to_end_ms_p95: float
    end_to_end_ms: tuple[float, ...] = Field(default=(), description="every measured answer, in its order")


class ModelScores(Contract):
    """One model's figures on the held-out rows. What is supervised depends on the recipe: tokens, rows or words."""

    loss: float = Field(description="nats per supervised token, token-weighted")
    token_accuracy: float
    supervised_tokens: int
    classification: ClassScores | None = None
    spans: SpanScores | None = None
    text: TextScores | None = None
    preference: PreferenceScores | None = None
    figures: tuple[Figure, ...] = Field(default=(), description="every figure of the task, with its interval")
    classes: tuple[ClassFigures, ...] = Field(default=(), description="each label's own figures")
    confusion: Confusion | None = None
    calibration: Calibration | None = None
    decisions: CostDecisions | None = Field(default=None, description="where the job says what mistakes cost")
    latency: Latency
    evaluation_seconds: float


class Sample(Contract):
    """One held-out row with both answers, for people to read."""

    line: int
    prompt: str
    expected: str
    base: str
    tuned: str


class LeakedRows(Contract):
    """Held-out rows whose prompt was trained on: what they add is memory, not skill."""

    rows: int = Field(description="as many as the evaluation's own where training has seen them all")
    base: tuple[Figure, ...]
    tuned: tuple[Figure, ...]


class ExpectationOutcome(Contract):
    """One of the users' own examples: both answers, and whether they are as expected."""

    expectation: Expectation
    base: str = Field(description="the answer of the base, or of what stands for it")
    base_passed: bool
    tuned: str
    passed: bool
    sentence: str = Field(description="why the tuned model's answer is not as expected; empty where it is")


class Evaluation(Contract):
    """Base beside tuned on the same rows, same templates, same decoding."""

    kind: Literal["evaluation"] = "evaluation"
    run_id: str
    rows: int
    base_is: str = Field(
        default="the base model",
        description="what stands for the base: itself, a linear probe on its frozen features, or an earlier model",
    )
    dropped: tuple[tuple[int, str], ...] = ()
    labels: tuple[str, ...] | None
    base: ModelScores
    tuned: ModelScores
    judgement: Judgement | None = Field(default=None, description="what may be said of the two")
    samples: tuple[Sample, ...]
    leaked: LeakedRows | None = Field(
        default=None, description="rows that were trained on; in no figure but these, unless all were"
    )
    expectations: tuple[ExpectationOutcome, ...] = ()
    requirements: tuple[RequirementJudgement, ...] = Field(
        default=(), description="the job's sheet against the tuned model's figures; judged when recorded"
    )
    summary: str = Field(default="", description="a paragraph in plain words; written when the evaluation is recorded")


Report = Annotated[
    Ready | Progress | Encoded | Metric | Checkpoint | Finished | Stopped | Failed | Evaluation,
    Field(discriminator="kind"),
]

report_adapter: TypeAdapter[Report] = TypeAdapter(Report)
command_adapter: TypeAdapter[Command] = TypeAdapter(Command)
