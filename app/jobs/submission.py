"""Refusals at the door: settings that exclude each other, and what the base or the parent cannot learn."""

from collections.abc import Mapping
from typing import Any

from app.bases.schemas import base_kind
from app.bases.tasks import KINDS_OF, misfit
from app.contracts.requirements import parse_sheet
from app.contracts.specs import Recipe
from app.datasets.tasks import task_of
from app.db.tables import BaseModelRow
from app.errors import InvalidInput
from app.jobs.parents import Unsuited, check_recipe
from app.jobs.schemas import JobCreate

_OF_ADAPTERS = ("rank", "alpha", "dropout", "targets")
_FIXED_BY_PARENT = ("rank", "alpha", "targets")


def check_sheet(sheet: str | None) -> None:
    """`InvalidInput` for a sheet of requirements that cannot be read."""
    if sheet is not None:
        try:
            parse_sheet(sheet)
        except ValueError as error:
            raise InvalidInput(f"requirements, {error}", param="requirements") from None


def check_settings(body: JobCreate, settings: Mapping[str, Any]) -> None:
    """`InvalidInput` for settings that exclude each other. `settings` is the block `training`, "auto" filled in."""
    asked = {name: value for name, value in settings.items() if value != "auto"}
    multiplier = body.requested_hyperparameters()["learning_rate_multiplier"]
    if "learning_rate" in asked and multiplier != "auto":
        raise _wrong("learning_rate", "Give training.learning_rate or learning_rate_multiplier, not both.")
    if asked.get("adapter") == "none":
        for name in (name for name in _OF_ADAPTERS if name in asked):
            raise _wrong(name, f"training.{name} is a setting of adapters, and training.adapter 'none' makes none.")
        if asked.get("quantization") == "nf4":
            raise _wrong("quantization", "Full fine-tuning (training.adapter 'none') cannot train weights in 4 bits.")
    if body.costs is not None and asked_recipe(body) not in {None, "text_classification"}:
        raise InvalidInput("costs are for the task 'text-classification'; leave them out of this job.", param="costs")
    if body.is_dpo and body.task not in {None, "chat"}:
        raise InvalidInput(f"method.type 'dpo' is for the task 'chat', not for '{body.task}'.", param="task")


def check_fits(
    body: JobCreate, settings: Mapping[str, Any], base: BaseModelRow, parent: Mapping[str, Any] | None
) -> None:
    """`InvalidInput` for a task or a setting that the base, or the model to continue from, cannot take."""
    recipe = asked_recipe(body)
    if recipe is not None:
        problem = misfit(recipe, base_kind(base), base.id)
        if problem is not None:
            raise InvalidInput(problem, param="model", code="unsupported_task")
    length = settings["max_length"]
    if length != "auto" and length > base.context_length:
        raise _wrong("max_length", f"The base '{base.id}' reads at most {base.context_length} tokens a row.")
    if parent is not None:
        if recipe is not None:
            try:
                check_recipe(parent, recipe)
            except Unsuited as error:
                raise InvalidInput(str(error), param="model", code="unsupported_task") from None
        _check_adapter(settings, parent)


def asked_recipe(body: JobCreate) -> Recipe | None:
    """The recipe that method and task name; None if the rows are to tell."""
    if body.is_dpo:
        return "preference"
    supervised = (recipe for recipe in KINDS_OF if recipe != "preference")
    return next((recipe for recipe in supervised if task_of(recipe) == body.task), None)


def _check_adapter(settings: Mapping[str, Any], parent: Mapping[str, Any]) -> None:
    """An adapter is continued as it is: its shape is no choice any more."""
    lora, is_full = parent["lora"], parent["tuning"] == "full"
    if lora is None and not is_full:
        return
    has = {"adapter": "none" if is_full else lora["variant"]}
    if not is_full:
        has |= {name: lora[name] for name in _FIXED_BY_PARENT}
    for name, value in has.items():
        if settings[name] not in {"auto", value} if not isinstance(settings[name], list) else settings[name] != value:
            raise _wrong(
                name,
                f"The job continues from {parent['model_id']}, which has {name} {value}: leave training.{name} out, "
                "or start from the base.",
            )


def _wrong(name: str, message: str) -> InvalidInput:
    return InvalidInput(message, param=f"training.{name}")
