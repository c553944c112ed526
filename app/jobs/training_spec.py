"""From resolved settings to the engine's words: the part of a `TrainSpec` that is stored with the job."""

from typing import Any

from app.contracts.specs import DpoSpec, EarlyStopping, LoraSpec, OptimizerSpec
from app.jobs.hyperparameters import Resolved, RunFacts


def training_spec(
    resolved: Resolved, facts: RunFacts, *, seed: int, labels: tuple[str, ...] | None, is_multi_label: bool
) -> dict[str, Any]:
    """The fields of `TrainSpec` that are no local paths; fixed once, stored with the job."""
    settings = resolved.training
    is_full = settings["adapter"] == "none"
    lora = (
        LoraSpec()
        if is_full
        else LoraSpec(
            variant=settings["adapter"],
            targets=settings["targets"] if settings["targets"] == "all-linear" else tuple(settings["targets"]),
            **{name: settings[name] for name in ("rank", "alpha", "dropout")},
        )
    )
    optimizer = OptimizerSpec(
        **{
            name: settings[name]
            for name in ("learning_rate", "schedule", "warmup_fraction", "weight_decay", "max_grad_norm")
        }
    )
    stops = settings["early_stopping"]
    return {
        "recipe": facts.recipe,
        "labels": None if labels is None else list(labels),
        "is_multi_label": is_multi_label,
        "tuning": "full" if is_full else "adapter",
        "lora": lora.model_dump(mode="json"),
        "quantization": settings["quantization"],
        "dpo": None if resolved.beta is None else DpoSpec(beta=resolved.beta).model_dump(mode="json"),
        "early_stopping": EarlyStopping(**stops).model_dump(mode="json") if stops else None,
        "keeps_best": settings["keeps_best"],
        "keep_checkpoints": settings["keep_checkpoints"],
        "optimizer": optimizer.model_dump(mode="json"),
        "batch_size": resolved.batch_size,
        "n_epochs": resolved.n_epochs,
        "seed": seed,
        "max_length": settings["max_length"],
        "valid_every_steps": settings["valid_every_steps"],
    }
