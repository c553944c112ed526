"""The kinds of rows a file may hold, the tasks that name them on the wire, and the recipe each leads to."""

from enum import StrEnum
from typing import Literal

from app.contracts.specs import Recipe
from app.datasets.report import Format

Method = Literal["supervised", "dpo"]


class Task(StrEnum):
    """The additive field `task` of a job."""

    CHAT = "chat"
    TEXT_CLASSIFICATION = "text-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - the name of a task
    SUMMARIZATION = "summarization"


_TASKS: dict[Format, Task] = {
    "chat": Task.CHAT,
    "completion": Task.CHAT,
    "preference": Task.CHAT,
    "text_classification": Task.TEXT_CLASSIFICATION,
    "token_classification": Task.TOKEN_CLASSIFICATION,
    "summarization": Task.SUMMARIZATION,
}
_FORMATS: dict[Task, Format] = {
    Task.TEXT_CLASSIFICATION: "text_classification",
    Task.TOKEN_CLASSIFICATION: "token_classification",
    Task.SUMMARIZATION: "summarization",
}


def task_of(file_format: Format) -> Task:
    """The task that rows of this format serve."""
    return _TASKS[file_format]


def format_of(task: Task | None) -> Format | None:
    """The one format of a task; None for chat, which has three, and for no task."""
    return None if task is None else _FORMATS.get(task)


def recipe_of(file_format: Format) -> Recipe:
    return "chat" if file_format == "completion" else file_format


def wire_name(file_format: Format) -> str:
    """The format as messages name it."""
    return file_format.replace("_", "-")


def is_fit(file_format: Format, task: Task | None, method: Method | None) -> bool:
    """Whether a job of this task and method can train on such rows; None stands for any."""
    if task is not None and task_of(file_format) != task:
        return False
    return method is None or (file_format == "preference") == (method == "dpo")
