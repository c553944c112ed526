"""Learning rate of each optimizer step."""

import math

from app.contracts.specs import OptimizerSpec


def learning_rate(spec: OptimizerSpec, *, step: int, total_steps: int) -> float:
    """Rate of step `step` (from 0): linear warm-up, then linear or cosine decay to zero, or constant."""
    warmup = round(spec.warmup_fraction * total_steps)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    if spec.schedule == "constant":
        return spec.learning_rate
    progress = (step - warmup) / max(1, total_steps - warmup)
    if spec.schedule == "cosine":
        return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    return spec.learning_rate * (1 - progress)
