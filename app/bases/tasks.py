"""What each family of bases can be tuned for."""

from app.bases.kinds import Kind
from app.contracts.specs import Recipe
from app.datasets.tasks import task_of

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
    what = "Preference tuning (dpo)" if recipe == "preference" else f"The task '{task_of(recipe)}'"
    on = " or ".join(_NAMES[family] for family in KINDS_OF[recipe])
    can = ", ".join(
        f"'{task_of(other)}'" for other, kinds in KINDS_OF.items() if kind in kinds and other != "preference"
    )
    return (
        f"{what} needs {on}, and '{base_id}' is {_NAMES[kind]}. "
        f"Choose another base (GET /v1/bases names the kind of each), or data for what this one can learn: {can}."
    )
