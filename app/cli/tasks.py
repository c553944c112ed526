"""Tasks, methods and adapters as options of commands name them."""

from enum import StrEnum


class TaskName(StrEnum):
    CHAT = "chat"
    TEXT_CLASSIFICATION = "text-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - the name of a task
    SUMMARIZATION = "summarization"


class MethodName(StrEnum):
    SUPERVISED = "supervised"
    DPO = "dpo"


class AdapterName(StrEnum):
    LORA = "lora"
    RSLORA = "rslora"
    DORA = "dora"
    NONE = "none"
