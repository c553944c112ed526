"""What an engine tells its supervisor: one JSON object a line on a pipe."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from app.contracts.base import Contract
from app.contracts.errors import WorkerError
from app.contracts.specs import Command


class Ready(Contract):
    """The engine has imported its libraries and waits for commands."""

    kind: Literal["ready"] = "ready"
    pid: int
    device: str
    dtype: str
    threads: int
    torch: str
    memory_bytes: int


class Progress(Contract):
    """How far a phase is. `total` 0 means not known yet."""

    kind: Literal["progress"] = "progress"
    run_id: str
    phase: Literal["load", "encode", "train", "evaluate"]
    done: int
    total: int
    message: str = ""


class Encoded(Contract):
    """What became of every row: rows_in == rows_trained + len(dropped)."""

    kind: Literal["encoded"] = "encoded"
    run_id: str
    rows_in: int
    rows_trained: int
    dropped: tuple[tuple[int, str], ...] = Field(description="(source line, reason) of rows not trained")
    truncated: int = Field(description="rows whose prompt lost tokens on the left")
    tokens: int = Field(description="real tokens of one epoch")
    supervised_tokens: int
    longest: int = Field(description="tokens of the longest row")
    total_steps: int
    trainable_parameters: int
    targets: tuple[str, ...]


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
    step: int
    adapter_path: str
    adapter_sha256: str
    trained_tokens: int
    train_loss: float
    train_seconds: float


class Stopped(Contract):
    """The run ended early because it was told to; a checkpoint was reported before if a step was done."""

    kind: Literal["stopped"] = "stopped"
    run_id: str
    reason: Literal["cancel", "pause", "preempt", "shutdown"]
    step: int


class Failed(Contract):
    """The run ended with an error; the engine itself lives on unless it says `engine_lost`."""

    kind: Literal["failed"] = "failed"
    run_id: str
    error: WorkerError
    engine_lost: bool = False


class ClassScores(Contract):
    """Scores from generated answers matched to the labels (exact match after strip and casefold)."""

    accuracy: float
    macro_f1: float
    correct: int
    n: int
    unmatched: int = Field(description="answers that are no label at all; counted as wrong")


class Latency(Contract):
    """Milliseconds, batch of one, after warm-up, on the device that evaluated."""

    n: int
    time_to_first_token_ms_p50: float
    time_to_first_token_ms_p95: float
    tokens_per_second_p50: float
    end_to_end_ms_p50: float
    end_to_end_ms_p95: float


class ModelScores(Contract):
    """One model's figures on the held-out rows."""

    loss: float = Field(description="nats per supervised token, token-weighted")
    token_accuracy: float
    supervised_tokens: int
    classification: ClassScores | None = None
    latency: Latency
    evaluation_seconds: float


class Sample(Contract):
    """One held-out row with both answers, for people to read."""

    line: int
    prompt: str
    expected: str
    base: str
    tuned: str


class Evaluation(Contract):
    """Base beside tuned on the same rows, same templates, same decoding."""

    kind: Literal["evaluation"] = "evaluation"
    run_id: str
    rows: int
    dropped: tuple[tuple[int, str], ...] = ()
    labels: tuple[str, ...] | None
    base: ModelScores
    tuned: ModelScores
    samples: tuple[Sample, ...]


Report = Annotated[
    Ready | Progress | Encoded | Metric | Checkpoint | Finished | Stopped | Failed | Evaluation,
    Field(discriminator="kind"),
]

report_adapter: TypeAdapter[Report] = TypeAdapter(Report)
command_adapter: TypeAdapter[Command] = TypeAdapter(Command)
