"""What the evaluation after a training will cost, said before it: its share of the training's time; pure."""

import math

from app.contracts.specs import Recipe

WORTH_SAYING = 0.10
# Time of a held-out row over that of a training row and epoch: two models read each row once, without the way back;
# where they also write texts, a row costs several. From runs on two cores (docs/benchmarks.md), but for preferences,
# which have no run behind them; what it will be is said with "about".
_ROW_COST: dict[Recipe, float] = {
    "text_classification": 0.35,
    "token_classification": 0.6,
    "preference": 1.0,
    "chat": 2.5,
    "summarization": 4.0,
}


def expected_share(recipe: Recipe, *, heldout_rows: int, train_rows: int, epochs: int) -> float:
    """Seconds of the evaluation over seconds of the training; about: answers of any length are written."""
    return _ROW_COST[recipe] * heldout_rows / max(1, train_rows * epochs)


def warning(recipe: Recipe, *, heldout_rows: int, train_rows: int, epochs: int) -> str | None:
    """A sentence where the evaluation is no small part of the whole."""
    share = expected_share(recipe, heldout_rows=heldout_rows, train_rows=train_rows, epochs=epochs)
    if share <= WORTH_SAYING:
        return None
    fitting = max(1, math.floor(heldout_rows * WORTH_SAYING / share))
    return (
        f"The evaluation on {heldout_rows:,} held-out rows will take about {_percent(share)} % of the training's time "
        f"on top of it; {fitting:,} rows would keep it under 10 %, with wider intervals."
    )


def _percent(share: float) -> int:
    """To one digit that counts: more is not known."""
    value = 100 * share
    step = 10 ** max(0, math.floor(math.log10(value)))
    return int(round(value / step) * step)
