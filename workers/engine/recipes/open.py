"""Which recipe trains what: the one list of them."""

from app.contracts.errors import usage
from app.contracts.specs import DpoSpec
from app.contracts.specs import Recipe as RecipeName
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.chat import ChatRecipe
from workers.engine.recipes.preference import PreferenceRecipe
from workers.engine.recipes.recipe import Recipe
from workers.engine.recipes.summarization import open_summarization
from workers.engine.recipes.text_classification import TextClassification
from workers.engine.recipes.token_classification import TokenClassification

_FAMILIES = {
    "chat": {"decoder"},
    "preference": {"decoder"},
    "text_classification": {"encoder", "decoder"},
    "token_classification": {"encoder"},
    "summarization": {"decoder", "encoder_decoder"},
}


def open_recipe(
    resident: ResidentBase,
    name: RecipeName,
    *,
    labels: tuple[str, ...] | None = None,
    is_multi_label: bool = False,
    dpo: DpoSpec | None = None,
) -> Recipe:
    """The recipe on this base; usage failure `unsupported_task` for a base of another family."""
    if resident.family not in _FAMILIES[name]:
        raise usage(
            "unsupported_task",
            f"The base '{resident.ref.id}' is an {resident.family.replace('_', '-')}; {name.replace('_', ' ')} needs "
            f"a base that is one of: {', '.join(sorted(_FAMILIES[name]))}.",
            param="model",
        )
    match name:
        case "chat":
            return ChatRecipe(resident)
        case "text_classification":
            return TextClassification(resident, labels or (), is_multi_label=is_multi_label)
        case "token_classification":
            return TokenClassification(resident, labels or ())
        case "preference":
            return PreferenceRecipe(resident, dpo or DpoSpec())
        case "summarization":
            return open_summarization(resident)
