"""The numbers behind "auto", one line for each recipe and family of bases. Tune them here, after measuring.

Rates are AdamW's peak for adapters. LoRA wants about ten times the rate of full fine-tuning, hardly depending on
rank, and the more the narrower the model (Schulman et al. 2025, "LoRA Without Regret").
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from app.bases.kinds import Kind
from app.contracts.specs import Recipe

Rates = tuple[tuple[float, float], ...]
"""(most parameters of the base, rate), smallest first."""

FULL_RATE_FACTOR = 0.1
# Up to so many rows a rank of 16 holds what they teach; above it 32.
ROWS_OF_THE_LOWER_RANK = 10_000
LOWER_RANK, HIGHER_RANK = 16, 32
# alpha/rank of `lora` and `dora`; `rslora` has the same scale at the lower rank.
SCALE = 2.0
BETA = 0.1
PATIENCE = 3
# Their score (macro-F1, span F1) often grows on while the loss does: such runs are not stopped early of themselves.
SCORED_BY_THEIR_OWN: frozenset[Recipe] = frozenset({"text_classification", "token_classification"})
KEEP_CHECKPOINTS = 3
CHECKS_PER_RUN = 10


@dataclass(frozen=True)
class Recommended:
    rates: Rates
    wanted_steps: int = 100
    """Fewer optimizer steps than these hardly move a model."""
    epochs: int = 3
    most_epochs: int = 5
    most_epochs_of_tiny: int = 10
    """With at most 30 rows."""
    smallest_batch: int = 1
    largest_batch: int = 16
    dropout: float = 0.0
    schedule: str = "linear"
    warmup_fraction: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def rate(self, parameters: int) -> float:
        return next(rate for most, rate in self.rates if parameters <= most)


# Chat below half a billion parameters was measured on the demo's tickets; the rest follows the ten-fold rule.
_DECODER_RATES: Rates = ((500e6, 5e-4), (3e9, 2e-4), (math.inf, 1e-4))
# A new head starts from nothing and learns at the adapter's rate.
_ENCODER_RATES: Rates = ((50e6, 5e-4), (200e6, 3e-4), (math.inf, 2e-4))
_ENCODER_DECODER_RATES: Rates = ((500e6, 5e-4), (3e9, 3e-4), (math.inf, 2e-4))
# A tenth of supervised tuning's: the pairs push the two answers apart without end.
_PREFERENCE_RATES: Rates = ((500e6, 5e-5), (3e9, 2e-5), (math.inf, 1e-5))

RECOMMENDED: Mapping[tuple[Recipe, Kind], Recommended] = {
    ("chat", "decoder"): Recommended(_DECODER_RATES),
    ("preference", "decoder"): Recommended(
        _PREFERENCE_RATES, wanted_steps=40, epochs=1, most_epochs=1, most_epochs_of_tiny=1, smallest_batch=8
    ),
    ("text_classification", "encoder"): Recommended(_ENCODER_RATES, wanted_steps=200, most_epochs=10, smallest_batch=8),
    ("text_classification", "decoder"): Recommended(_DECODER_RATES),
    ("token_classification", "encoder"): Recommended(
        _ENCODER_RATES, wanted_steps=200, most_epochs=10, smallest_batch=8
    ),
    ("summarization", "encoder_decoder"): Recommended(_ENCODER_DECODER_RATES),
    ("summarization", "decoder"): Recommended(_DECODER_RATES),
}
