"""`auto` -> numbers, each with its reason: a pure function of the data's size and the base's size."""

import math
from dataclasses import dataclass
from typing import Any

from app.contracts.specs import LoraSpec, OptimizerSpec

# LoRA wants about ten times the rate of full fine-tuning, hardly depending on rank, and the more the
# narrower the model (Schulman et al. 2025, "LoRA Without Regret"). (most parameters, rate), smallest first.
RATES: tuple[tuple[float, float], ...] = ((500e6, 5e-4), (3e9, 2e-4), (math.inf, 1e-4))
WANTED_STEPS = 100
DEFAULT_EPOCHS = 3
MAX_AUTO_BATCH = 16
_CHECKS_PER_RUN = 10


@dataclass(frozen=True)
class Resolved:
    """Numbers for the wire (`batch_size`, `n_epochs`, `learning_rate_multiplier`), and a sentence for each choice."""

    batch_size: int
    n_epochs: int
    learning_rate_multiplier: float
    reasons: tuple[str, ...]

    def on_wire(self) -> dict[str, int | float]:
        return {
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
            "n_epochs": self.n_epochs,
        }


def resolve(requested: dict[str, Any], *, train_rows: int) -> Resolved:
    """Fix what was left to `auto`. `train_rows` are those that remain after holding out."""
    reasons: list[str] = []
    batch_size = requested.get("batch_size", "auto")
    if batch_size == "auto":
        batch_size = _batch_size(train_rows)
        reasons.append(
            f"batch_size {batch_size}: {train_rows} training examples; up to {MAX_AUTO_BATCH}, "
            f"so small that {DEFAULT_EPOCHS} epochs give about {WANTED_STEPS} optimizer steps where they can."
        )
    batch_size = min(batch_size, train_rows)
    steps = math.ceil(train_rows / batch_size)
    n_epochs = requested.get("n_epochs", "auto")
    if n_epochs == "auto":
        n_epochs = _epochs(train_rows, steps)
        reasons.append(f"n_epochs {n_epochs}: an epoch is {steps} steps; {steps * n_epochs} optimizer steps in all.")
    multiplier = requested.get("learning_rate_multiplier", "auto")
    if multiplier == "auto":
        multiplier = 1.0
        reasons.append("learning_rate_multiplier 1.0: the rate known to suit adapters on a base of this size.")
    return Resolved(batch_size, n_epochs, float(multiplier), tuple(reasons))


def learning_rate(multiplier: float, *, base_parameters: int) -> float:
    """The peak rate of AdamW for a multiplier."""
    return next(rate for most, rate in RATES if base_parameters <= most) * multiplier


def training_spec(
    resolved: Resolved, *, train_rows: int, seed: int, base_parameters: int, context_length: int
) -> dict[str, Any]:
    """The fields of `TrainSpec` that are no local paths; fixed once, stored with the job."""
    total_steps = math.ceil(train_rows / resolved.batch_size) * resolved.n_epochs
    optimizer = OptimizerSpec(
        learning_rate=learning_rate(resolved.learning_rate_multiplier, base_parameters=base_parameters)
    )
    return {
        "recipe": "chat",
        "lora": LoraSpec().model_dump(mode="json"),
        "optimizer": optimizer.model_dump(mode="json"),
        "batch_size": resolved.batch_size,
        "n_epochs": resolved.n_epochs,
        "seed": seed,
        "max_length": context_length,
        "valid_every_steps": max(1, math.ceil(total_steps / _CHECKS_PER_RUN)),
    }


def _batch_size(train_rows: int) -> int:
    size = MAX_AUTO_BATCH
    while size > 1 and train_rows * DEFAULT_EPOCHS / size < WANTED_STEPS:
        size //= 2
    return size


def _epochs(train_rows: int, steps_per_epoch: int) -> int:
    if train_rows >= 50_000:
        return 1
    if train_rows >= 10_000:
        return 2
    most = 10 if train_rows <= 30 else 5
    return min(most, max(DEFAULT_EPOCHS, math.ceil(WANTED_STEPS / steps_per_epoch)))
