"""What a base can be tuned for: the tasks of the wire, the recipes behind them, and the families each runs on."""

from typing import Literal

from app.bases.kinds import Kind
from app.contracts.specs import Recipe

Task = Literal["chat", "text-classification", "token-classification", "summarization"]

RECIPE_OF: dict[Task, Recipe] = {
    "chat": "chat",
    "text-classification": "text_classification",
    "token-classification": "token_classification",
    "summarization": "summarization",
}
TASK_OF: dict[Recipe, Task] = {
    "chat": "chat",
    "preference": "chat",
    "text_classification": "text-classification",
    "token_classification": "token-classification",
    "summarization": "summarization",
}
KINDS_OF: dict[Recipe, tuple[Kind, ...]] = {
    "chat": ("decoder",),
    "preference": ("decoder",),
    "text_classification": ("encoder", "decoder"),
    "token_classification": ("encoder",),
    "summarization": ("encoder_decoder", "decoder"),
}
_NAMES: dict[Kind, str] = {"decoder": "a decoder", "encoder": "an encoder", "encoder_decoder": "an encoder-decoder"}


def misfit(recipe: Recipe, kind: Kind, base_id: str) -> str | None:
    """Why this base cannot be tuned so, in a sentence with the way out; None if it can."""
    if kind in KINDS_OF[recipe]:
        return None
    what = "Preference tuning (dpo)" if recipe == "preference" else f"The task '{TASK_OF[recipe]}'"
    on = " or ".join(_NAMES[family] for family in KINDS_OF[recipe])
    can = ", ".join(f"'{TASK_OF[other]}'" for other in RECIPE_OF.values() if kind in KINDS_OF[other])
    return (
        f"{what} needs {on}, and '{base_id}' is {_NAMES[kind]}. "
        f"Choose another base (GET /v1/bases names the kind of each), or data for what this one can learn: {can}."
    )
