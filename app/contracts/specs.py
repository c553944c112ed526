"""What an engine is asked to do. Specs are frozen, versioned and stored with the job."""

from typing import Annotated, Any, Literal

from pydantic import Field

from app.contracts.base import Contract
from app.contracts.costs import Costs
from app.contracts.requirements import Expectation

Recipe = Literal["chat", "preference", "text_classification", "token_classification", "summarization"]


class BaseRef(Contract):
    """A base model as the registry knows it, with the local folder this worker reads it from."""

    id: str
    path: str
    weights_sha256: str = Field(description="SHA-256 over the sorted (file name, file SHA-256) pairs")
    context_length: int = Field(gt=0, description="tokens")


class AdapterRef(Contract):
    """An adapter in PEFT's format in a local folder."""

    id: str
    path: str
    sha256: str = Field(description="SHA-256 of adapter_model.safetensors")


class AbstentionPoint(Contract):
    """What answering only from a confidence on would mean, on the rows a classifier was calibrated on."""

    min_confidence: float = Field(ge=0, le=1)
    answered: float = Field(gt=0, le=1, description="share of rows at least this confident")
    risk: float = Field(ge=0, le=1, description="share of wrong answers among them")
    risk_bound: float = Field(ge=0, le=1, description="what that share is below, with 95 % for all points at once")


class LabelCalibration(Contract):
    """How the scores of a classifier with one label a text become probabilities that mean what they say."""

    temperature: float = Field(gt=0, description="by which logits are divided")
    conformal_threshold: float = Field(ge=0, le=1, description="labels of at least this probability are in the set")
    conformal_coverage: float = Field(gt=0, lt=1, description="share of sets that hold the truth")
    abstention: tuple[AbstentionPoint, ...] = Field(description="the surest first")
    rows: int = Field(gt=0, description="rows it was fitted on: those that chose the checkpoint, never held out")


class AdapterTask(Contract):
    """What an adapter was trained for; lies beside its weights as `tunesmith.json`."""

    version: Literal[1] = 1
    recipe: Recipe
    tuning: Literal["adapter", "full"] = Field(default="adapter", description="full: the file holds the whole model")
    labels: tuple[str, ...] | None = None
    is_multi_label: bool = False
    calibration: LabelCalibration | None = Field(
        default=None, description="of a classifier with one label a text, where rows chose its checkpoint"
    )


class LoraSpec(Contract):
    """Low-rank adaptation of linear layers.

    `lora` scales by alpha/r (Hu et al. 2021, arXiv 2106.09685), `rslora` by alpha/sqrt(r) (Kalajdzievski 2023,
    arXiv 2312.03732), `dora` learns the length of each weight row apart (Liu et al. 2024, arXiv 2402.09353).
    """

    variant: Literal["lora", "rslora", "dora"] = "lora"
    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class OptimizerSpec(Contract):
    """AdamW over the adapter's fp32 weights, linear warm-up and decay to zero."""

    learning_rate: float = Field(gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    max_grad_norm: float = Field(default=1.0, gt=0)


class DpoSpec(Contract):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290)."""

    beta: float = Field(default=0.1, gt=0, le=2)


class EarlyStopping(Contract):
    """End the run when `patience` validations in a row are no better than the best one before by `min_delta`."""

    patience: int = Field(default=3, ge=1, le=100)
    min_delta: float = Field(default=0.0, ge=0, description="nats of validation loss")


class TrainSpec(Contract):
    """One training run on one base. Paths are local to the worker that runs it."""

    kind: Literal["train"] = "train"
    version: Literal[1] = 1
    run_id: str
    base: BaseRef
    recipe: Recipe = "chat"
    labels: tuple[str, ...] | None = Field(
        default=None, description="of a classification recipe: all labels, in the order of the head's outputs"
    )
    is_multi_label: bool = Field(default=False, description="text_classification: any number of labels a text")
    train_rows: str = Field(description="path of the canonical rows (JSON lines, see `rows`)")
    train_rows_sha256: str
    valid_rows: str | None = Field(default=None, description="rows whose loss is shown during training")
    selection_rows: str | None = Field(
        default=None,
        description="rows that choose the best checkpoint and stop early, apart from those that are scored at the "
        "end; None: `valid_rows` choose",
    )
    output_dir: str = Field(description="folder for checkpoints/, created if absent; kept between attempts")
    resume_from: str | None = Field(default=None, description="checkpoint folder to continue from")
    initial_adapter: AdapterRef | None = Field(default=None, description="continue from this adapter's weights")
    tuning: Literal["adapter", "full"] = Field(default="adapter", description="full trains every weight of the base")
    lora: LoraSpec = LoraSpec()
    quantization: Literal["none", "nf4"] = Field(
        default="none", description="nf4 keeps the base's linear layers in 4 bits (QLoRA, arXiv 2305.14314; GPU)"
    )
    dpo: DpoSpec | None = Field(default=None, description="of the preference recipe")
    early_stopping: EarlyStopping | None = None
    keeps_best: bool = Field(default=True, description="the result is the best checkpoint, not the last")
    keep_checkpoints: int = Field(default=3, ge=1, le=50, description="epoch checkpoints kept on disk")
    optimizer: OptimizerSpec
    batch_size: int = Field(ge=1, le=256, description="rows per optimizer step")
    n_epochs: int = Field(ge=1, le=50)
    seed: int = Field(ge=0, le=2**31 - 1)
    max_length: int = Field(
        gt=0,
        description="tokens a row may have (source and target of an encoder-decoder: each); of longer ones a "
        "conversation loses the left of its prompt and a text or source its end; an answer is never cut, but dropped",
    )
    token_budget: int | None = Field(
        default=None, gt=0, description="tokens per micro-batch; None lets the engine choose"
    )
    valid_every_steps: int | None = Field(default=None, ge=1)
    valid_rows_per_check: int = Field(default=16, ge=1)
    resume_checkpoint_seconds: float = Field(
        default=20.0, ge=0, description="least time between resume checkpoints; 0 = after every step"
    )
    deadline_seconds: float | None = None


class EvalSpec(Contract):
    """Base, or an earlier adapter in its place, beside tuned on held-out rows."""

    kind: Literal["evaluate"] = "evaluate"
    version: Literal[1] = 1
    run_id: str
    base: BaseRef
    adapter: AdapterRef
    against: AdapterRef | None = Field(default=None, description="stands in the base's place: an earlier version")
    recipe: Recipe = "chat"
    is_multi_label: bool = False
    dpo: DpoSpec | None = Field(default=None, description="of the preference recipe: as in training")
    rows: str = Field(description="path of the canonical held-out rows")
    train_rows: str | None = Field(
        default=None, description="path of the rows that were trained on, for the cheap answers that learn from them"
    )
    leaked_lines: tuple[int, ...] = Field(
        default=(), description="lines of `rows` whose prompt was trained on: scored apart, never in the figures"
    )
    calibration_rows: str | None = Field(
        default=None,
        description="path of rows, not held out, on which what stands for a classifier's base is calibrated",
    )
    expectations: tuple[Expectation, ...] = Field(default=(), description="put to both models after the rows")
    labels: tuple[str, ...] | None = Field(
        default=None,
        description="the labels of a classification recipe; for chat the distinct answers, where they are labels",
    )
    costs: Costs | None = Field(default=None, description="of mistakes; of a classifier with one label a text")
    max_length: int = Field(gt=0)
    token_budget: int | None = Field(default=None, gt=0)
    latency_rows: int = Field(default=16, ge=1)
    latency_new_tokens: int = Field(default=8, ge=2)
    seed: int = 0


class SamplingSpec(Contract):
    """How tokens are drawn. `temperature` 0 is greedy."""

    max_new_tokens: int = Field(ge=0)
    clip_to_context: bool = Field(
        default=False, description="end at the context length where it comes sooner (True), or refuse (False)"
    )
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = Field(default=None, ge=0, le=20, description="alternatives per token; None = no logprobs")
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    logit_bias: dict[int, float] = Field(default_factory=dict)


class GenerateSpec(Contract):
    """A request to the serving process: messages (chat template) or a raw prompt."""

    kind: Literal["generate"] = "generate"
    base: BaseRef
    adapter: AdapterRef | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    prompt: str | tuple[int, ...] | None = None
    echo: bool = False
    n: int = Field(default=1, ge=1, le=16)
    sampling: SamplingSpec


class Stop(Contract):
    """Ends a run at the next micro-batch, with a checkpoint of the last finished step; other runs go on."""

    kind: Literal["stop"] = "stop"
    run_id: str | None = Field(default=None, description="None: every run")
    reason: Literal["cancel", "pause", "preempt", "shutdown"]


class LoadBase(Contract):
    """Make this base resident now, so that the next run starts warm."""

    kind: Literal["load_base"] = "load_base"
    base: BaseRef


class Exit(Contract):
    """Leave when all runs begun before are over."""

    kind: Literal["exit"] = "exit"


Command = Annotated[TrainSpec | EvalSpec | Stop | LoadBase | Exit, Field(discriminator="kind")]
