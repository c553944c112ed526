"""Settings that rarely do what was hoped for: said as warnings, never refused."""

import math
from collections.abc import Iterator

from app.jobs.hyperparameters import Resolved, RunFacts

_FAR_OFF = 5.0
_SMALL_SET_ROWS = 10_000
_FEW_STEPS = 100
_SMALL_BASE = 1e9
# Kind of a full fine-tuning's need: weights, gradients and AdamW's two moments in 32 bits.
_BYTES_A_PARAMETER = 16


def unusual(resolved: Resolved, facts: RunFacts) -> list[str]:
    """A sentence for each unusual setting, with what is usual."""
    return [*_of_the_run(resolved, facts), *_of_the_adapter(resolved, facts), *_of_the_optimizer(resolved)]


def _of_the_run(resolved: Resolved, facts: RunFacts) -> Iterator[str]:
    settings = resolved.training
    if resolved.batch_size > 32 and facts.train_rows < _SMALL_SET_ROWS:
        yield (
            f"batch_size {resolved.batch_size} is large for {facts.train_rows} training examples: adapters tolerate "
            "large batches less than full fine-tuning does; up to 32 is usual."
        )
    if resolved.n_epochs == 1 and facts.recommended.epochs > 1 and resolved.total_steps < _FEW_STEPS:
        yield (
            f"One epoch of {resolved.total_steps} optimizer steps is short: below {_FEW_STEPS} steps a model hardly "
            "changes. More epochs or a smaller batch_size give more steps."
        )
    if resolved.n_epochs > 10:
        yield f"n_epochs {resolved.n_epochs}: after some 10 passes a model learns its examples by heart."
    if settings["max_length"] < facts.context_length:
        yield (
            f"max_length {settings['max_length']} is below the {facts.context_length} tokens the base reads: longer "
            "rows are cut (a conversation loses the beginning of its prompt, any other text its end), or dropped and "
            "named in the events."
        )
    if resolved.lacks_rows_to_choose:
        yield (
            "early_stopping and keeps_best are off: the examples are too few to set some apart for it. A "
            "validation_file would serve."
        )
    if resolved.beta is not None and not 0.01 <= resolved.beta <= 0.5:
        yield f"beta {resolved.beta:g}: between 0.01 (far from the start) and 0.5 (close to it) is usual."


def _of_the_adapter(resolved: Resolved, facts: RunFacts) -> Iterator[str]:
    settings = resolved.training
    if settings["adapter"] == "none":
        gigabytes = facts.base_parameters * _BYTES_A_PARAMETER / 1e9
        yield (
            f"adapter none trains all {facts.base_parameters / 1e6:.4g} million weights: about {gigabytes:.1f} GB for "
            "weights and optimizer, a result as large as the base, and more forgetting of what the base knew."
        )
        return
    rank, alpha, dropout = settings["rank"], settings["alpha"], settings["dropout"]
    if rank > 256:
        yield f"rank {rank}: above 256 an adapter costs memory and time and, with data of this size, learns no more."
    scale = alpha / (math.sqrt(rank) if settings["adapter"] == "rslora" else rank)
    if not 0.5 <= scale <= 4:
        yield (
            f"alpha {alpha:g} with rank {rank} scales the adapter by {scale:.3g}; between 0.5 and 4 is usual. "
            "A small scale learns slowly, a large one breaks what the base knows."
        )
    if dropout > 0 and settings["adapter"] == "dora":
        yield f"dropout {dropout:g} with dora: its weight lengths are taken without dropout, and steps are slower."
    if settings["targets"] != "all-linear":
        yield "targets on some of the linear layers: adapters on all of them learn better, even at a lower rank."
    if settings["quantization"] == "nf4" and facts.base_parameters < _SMALL_BASE:
        yield (
            f"quantization nf4 on a base of {facts.base_parameters / 1e6:.4g} million parameters saves little memory "
            "and costs accuracy."
        )


def _of_the_optimizer(resolved: Resolved) -> Iterator[str]:
    settings = resolved.training
    ratio = settings["learning_rate"] / resolved.recommended_rate
    if ratio >= _FAR_OFF or ratio <= 1 / _FAR_OFF:
        yield (
            f"learning_rate {settings['learning_rate']:g} is {ratio:.3g} times the {resolved.recommended_rate:g} that "
            "suits this base and method."
        )
    if settings["warmup_fraction"] > 0.3:
        yield f"warmup_fraction {settings['warmup_fraction']:g}: up to 0.1 is usual; the peak rate comes late."
    if settings["weight_decay"] > 0.1:
        yield f"weight_decay {settings['weight_decay']:g}: up to 0.1 is usual."
