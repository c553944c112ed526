"""`auto` -> numbers, each with its reason: a pure function of the data's size, the task and the base."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.bases.kinds import Kind
from app.contracts.specs import Recipe
from app.jobs.recommended import (
    BETA,
    CHECKS_PER_RUN,
    FULL_RATE_FACTOR,
    HIGHER_RANK,
    KEEP_CHECKPOINTS,
    LOWER_RANK,
    PATIENCE,
    RECOMMENDED,
    ROWS_OF_THE_LOWER_RANK,
    SCALE,
    SCORED_BY_THEIR_OWN,
    Recommended,
)

_TINY_ROWS = 30
_FEW_EPOCHS_ROWS, _ONE_EPOCH_ROWS = 10_000, 50_000


@dataclass(frozen=True)
class RunFacts:
    """What the numbers follow from."""

    recipe: Recipe
    kind: Kind
    base_parameters: int
    context_length: int
    train_rows: int
    """Rows that remain after holding out."""
    choosing_rows: int
    """Rows that can choose the best checkpoint and stop early."""
    parent: Mapping[str, Any] | None = None
    """`{"tuning", "lora"}` of the model the job continues from."""

    @property
    def recommended(self) -> Recommended:
        return RECOMMENDED[self.recipe, self.kind]


@dataclass(frozen=True)
class Resolved:
    """Numbers for the wire, and a sentence for each choice that was left to us."""

    batch_size: int
    n_epochs: int
    learning_rate_multiplier: float
    beta: float | None
    """Of preference tuning."""
    training: dict[str, Any]
    """The block `training` with nothing "auto" in it; None where a setting does not apply."""
    total_steps: int
    recommended_rate: float
    reasons: tuple[str, ...]
    lacks_rows_to_choose: bool = False
    """Early stopping or the best checkpoint was asked for, and no rows can tell."""

    def on_wire(self) -> dict[str, int | float]:
        return {
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
            "n_epochs": self.n_epochs,
        }


def resolve(requested: Mapping[str, Any], training: Mapping[str, Any], facts: RunFacts) -> Resolved:
    """Fix what was left to `auto`. `requested` are the wire's hyperparameters, `training` our own block."""
    choices = _Choices(facts, requested, training)
    batch_size, n_epochs, total_steps = choices.size()
    adapter = choices.adapter()
    rate, multiplier, recommended_rate = choices.rate(is_full=adapter["adapter"] == "none")
    beta = choices.beta()
    settings = {
        **adapter,
        "learning_rate": rate,
        **choices.optimizer(),
        "max_length": choices.max_length(),
        **choices.checks(n_epochs, total_steps),
    }
    return Resolved(
        batch_size=batch_size,
        n_epochs=n_epochs,
        learning_rate_multiplier=multiplier,
        beta=beta,
        training=settings,
        total_steps=total_steps,
        recommended_rate=recommended_rate,
        reasons=tuple(choices.reasons),
        lacks_rows_to_choose=choices.lacks_rows_to_choose(),
    )


class _Choices:
    """One method a group of settings; each adds a sentence for what it chose itself."""

    def __init__(self, facts: RunFacts, requested: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        self._facts = facts
        self._suits = facts.recommended
        self._asked = {**training, **requested}
        self.reasons: list[str] = []

    def size(self) -> tuple[int, int, int]:
        """(rows a step, passes over the rows, optimizer steps in all)."""
        rows, suits = self._facts.train_rows, self._suits
        batch_size = self._get("batch_size")
        if batch_size == "auto":
            batch_size = _batch_size(rows, suits)
            self.reasons.append(
                f"batch_size {batch_size}: {rows} training examples; up to {suits.largest_batch}, so small that "
                f"{_count(suits.epochs, 'epoch')} give about {suits.wanted_steps} optimizer steps where they can."
            )
        batch_size = min(batch_size, rows)
        steps = math.ceil(rows / batch_size)
        n_epochs = self._get("n_epochs")
        if n_epochs == "auto":
            n_epochs = _epochs(rows, steps, suits)
            why = f"an epoch is {steps} steps; {steps * n_epochs} optimizer steps in all."
            self.reasons.append(f"n_epochs {n_epochs}: {why}")
        return batch_size, n_epochs, steps * n_epochs

    def adapter(self) -> dict[str, Any]:
        """What is trained: an adapter of some size, or every weight."""
        asked = self._get("adapter")
        parent = self._facts.parent
        is_full = asked == "none" or (asked == "auto" and parent is not None and parent["tuning"] == "full")
        if is_full:
            if asked == "auto":
                self.reasons.append("adapter none: the model this job continues from had all its weights trained.")
            return {
                "adapter": "none",
                **dict.fromkeys(("rank", "alpha", "dropout", "targets")),
                "quantization": "none",
            }
        if parent is not None and parent["lora"] is not None:
            lora = parent["lora"]
            defaults = {"adapter": lora["variant"], **{name: lora[name] for name in ("rank", "alpha", "targets")}}
            why = "as in the model this job continues from."
        else:
            defaults, why = self._new_adapter()
        defaults["dropout"] = self._suits.dropout
        defaults["quantization"] = "none"
        return self._fill(defaults, why)

    def _new_adapter(self) -> tuple[dict[str, Any], str]:
        rows = self._facts.train_rows
        variant = "lora" if self._get("adapter") == "auto" else self._get("adapter")
        rank = self._get("rank")
        few = rows <= ROWS_OF_THE_LOWER_RANK
        if rank == "auto":
            rank = LOWER_RANK if few else HIGHER_RANK
        # rslora divides by the root of the rank: one alpha keeps its step right at every rank.
        alpha = SCALE * math.sqrt(LOWER_RANK) if variant == "rslora" else SCALE * rank
        why = (
            f"a rank of {LOWER_RANK} holds what up to {ROWS_OF_THE_LOWER_RANK:,} examples teach, {HIGHER_RANK} what "
            f"more do; adapters on all linear layers learn best."
        )
        return {"adapter": variant, "rank": rank, "alpha": float(alpha), "targets": "all-linear"}, why

    def rate(self, *, is_full: bool) -> tuple[float, float, float]:
        """(peak rate, multiplier of the recommended one, the recommended one)."""
        recommended = self._suits.rate(self._facts.base_parameters) * (FULL_RATE_FACTOR if is_full else 1.0)
        asked = self._get("learning_rate")
        if asked != "auto":
            return asked, asked / recommended, recommended
        multiplier = self._get("learning_rate_multiplier")
        if multiplier == "auto":
            multiplier = 1.0
            what = "all weights" if is_full else "adapters"
            kind = self._facts.kind.replace("_", "-")
            self.reasons.append(
                f"learning_rate_multiplier 1.0: a peak rate of {recommended:g}, which suits {what} of "
                f"{_article(kind)} {kind} of {self._facts.base_parameters / 1e6:.4g} million parameters"
                f"{' trained on preferences' if self._facts.recipe == 'preference' else ''}."
            )
        return recommended * multiplier, float(multiplier), recommended

    def beta(self) -> float | None:
        if self._facts.recipe != "preference":
            return None
        beta = self._get("beta")
        if beta == "auto":
            beta = BETA
            self.reasons.append(f"beta {BETA}: how strongly the model is held to where it started; the usual value.")
        return float(beta)

    def optimizer(self) -> dict[str, Any]:
        suits = self._suits
        defaults = {
            "schedule": suits.schedule,
            "warmup_fraction": suits.warmup_fraction,
            "weight_decay": suits.weight_decay,
            "max_grad_norm": suits.max_grad_norm,
        }
        return self._fill(defaults, "a short warm-up, a decay to zero, and clipping of rare large gradients.")

    def max_length(self) -> int:
        length = self._get("max_length")
        if length == "auto":
            length = self._facts.context_length
            self.reasons.append(
                f"max_length {length}: all that the base reads; rows are packed, so room for long ones costs nothing."
            )
        return int(length)

    def checks(self, n_epochs: int, total_steps: int) -> dict[str, Any]:
        """How the run is watched, and what its result is."""
        can_choose = self._facts.choosing_rows > 0
        stops: Any = self._get("early_stopping")
        has_own_score = self._facts.recipe in SCORED_BY_THEIR_OWN
        if stops == "auto" and can_choose and n_epochs > 1 and not has_own_score:
            stops = {"patience": PATIENCE, "min_delta": 0.0}
            self.reasons.append(
                f"early_stopping after {PATIENCE} checks without a better validation loss: what follows would only be "
                "learned by heart."
            )
        elif stops == "auto":
            stops = False
            why = "there are no rows to tell when to stop"
            if can_choose:
                why = (
                    "the task's own score often grows on while the loss does, and the best checkpoint is kept"
                    if has_own_score
                    else "a single epoch repeats nothing"
                )
            self.reasons.append(f"early_stopping off: {why}.")
        keeps_best = self._get("keeps_best")
        if keeps_best == "auto":
            keeps_best = can_choose
            why = (
                "the result is the best checkpoint by rows that neither train nor are scored at the end."
                if can_choose
                else "there are no rows to choose a checkpoint by, so the result is the last one."
            )
            self.reasons.append(f"keeps_best {str(can_choose).lower()}: {why}")
        defaults = {
            "keep_checkpoints": KEEP_CHECKPOINTS,
            "valid_every_steps": max(1, math.ceil(total_steps / CHECKS_PER_RUN)),
        }
        counts = self._fill(defaults, f"{CHECKS_PER_RUN} checks in a run show its course.")
        return {"early_stopping": can_choose and stops, "keeps_best": can_choose and keeps_best, **counts}

    def lacks_rows_to_choose(self) -> bool:
        asks = self._get("keeps_best") is True or self._get("early_stopping") not in ("auto", False)
        return asks and self._facts.choosing_rows == 0

    def _get(self, name: str) -> Any:
        return self._asked.get(name, "auto")

    def _fill(self, defaults: Mapping[str, Any], why: str) -> dict[str, Any]:
        """Asked values over the defaults; one sentence for those that were left to us."""
        chosen = {name: value for name, value in defaults.items() if self._get(name) == "auto"}
        if chosen:
            named = ", ".join(f"{name} {_shown(value)}" for name, value in chosen.items())
            self.reasons.append(f"{named}: {why}")
        return {name: chosen.get(name, self._get(name)) for name in defaults}


def _batch_size(train_rows: int, suits: Recommended) -> int:
    size = suits.largest_batch
    while size > suits.smallest_batch and train_rows * suits.epochs / size < suits.wanted_steps:
        size //= 2
    return size


def _epochs(train_rows: int, steps_per_epoch: int, suits: Recommended) -> int:
    if train_rows >= _ONE_EPOCH_ROWS:
        return 1
    if train_rows >= _FEW_EPOCHS_ROWS:
        return min(2, suits.epochs)
    most = suits.most_epochs_of_tiny if train_rows <= _TINY_ROWS else suits.most_epochs
    return min(most, max(suits.epochs, math.ceil(suits.wanted_steps / steps_per_epoch)))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
