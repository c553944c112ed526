"""The fine-tuned model a job continues from: what of it binds the job's own choices."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from app.contracts.specs import Recipe
from app.datasets.tasks import task_of
from app.registry.service import ResolvedModel

# Preference tuning follows supervised tuning of the same chats, and may be followed by it.
_OF_CHATS: frozenset[Recipe] = frozenset({"chat", "preference"})


class Unsuited(ValueError):  # noqa: N818 - named after what the data are
    """The rows are not what the parent can go on with; the message says why."""


def describe_parent(model: ResolvedModel, spec: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a job stores of its parent: where it lies, what it is, how it was adapted (`spec` of the parent's job)."""
    if model.adapter is None or model.tuned is None:
        return None
    known = spec or {}
    return {
        "model_id": model.id,
        **asdict(model.adapter),
        "recipe": model.tuned.recipe,
        "labels": None if model.tuned.labels is None else list(model.tuned.labels),
        "is_multi_label": model.tuned.is_multi_label,
        "tuning": known.get("tuning", "adapter"),
        "lora": known.get("lora"),
    }


def check_recipe(parent: Mapping[str, Any], recipe: Recipe) -> None:
    """`Unsuited` if a model of the parent's recipe cannot learn this one."""
    known: Recipe = parent.get("recipe", "chat")
    if recipe != known and not {recipe, known} <= _OF_CHATS:
        raise Unsuited(
            f"{parent['model_id']} was tuned for '{task_of(known)}' and cannot go on with "
            f"'{task_of(recipe)}'. Start from its base model instead."
        )


def head_labels(
    parent: Mapping[str, Any], labels: tuple[str, ...] | None, *, is_multi_label: bool
) -> tuple[tuple[str, ...] | None, bool]:
    """The labels of the parent's head, which the job keeps; `Unsuited` if the rows have others."""
    known = parent.get("labels")
    if known is None:
        return labels, is_multi_label
    strange = [label for label in labels or () if label not in known]
    if strange:
        named = ", ".join(repr(label) for label in strange[:5]) + (" and more" if len(strange) > 5 else "")
        raise Unsuited(
            f"{parent['model_id']} does not know the label(s) {named}, and its head cannot grow. "
            "Start from its base model instead."
        )
    if is_multi_label and not parent.get("is_multi_label"):
        raise Unsuited(
            f"The rows have several labels a text, and {parent['model_id']} gives each text exactly one. "
            "Start from its base model instead."
        )
    return tuple(known), bool(parent.get("is_multi_label"))
