"""A model as a caller may ask it: what it was tuned for decides where and how it answers."""

from dataclasses import dataclass

from app.bases.kinds import Kind
from app.chat.adapter_cache import AdapterArchive
from app.contracts.specs import BaseRef
from app.datasets.tasks import Task, task_of
from app.errors import InvalidInput
from app.registry.service import Tuned

_FINGERPRINT_CHARACTERS = 10
_HEADS = frozenset({Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION})


@dataclass(frozen=True)
class ModelToAsk:
    """A base, or an adapter on it, that the caller may use."""

    id: str
    base: BaseRef
    kind: Kind
    """Of the base."""
    has_chat_template: bool
    archive: AdapterArchive | None
    tuned: Tuned
    """What it was tuned to do; a base is taken for one that holds conversations."""

    @property
    def task(self) -> Task:
        return task_of(self.tuned.recipe)

    @property
    def predicts(self) -> bool:
        """Whether it has something to say of a text by itself."""
        return self.task != Task.CHAT

    @property
    def writes(self) -> bool:
        """Whether it continues a text token by token."""
        return self.kind == "decoder" and self.task not in _HEADS

    @property
    def converses(self) -> bool:
        """Whether the messages of a conversation reach it as such, through a chat template.

        A decoder tuned to summarise has learned to answer the source as a user's message, where there is a template.
        """
        return self.writes and (self.has_chat_template or not self.predicts)

    @property
    def fingerprint(self) -> str:
        """Names the weights: `fp_<base>_<adapter>`, hash prefixes; `base` stands for no adapter."""
        adapter = self.archive.weights_sha256[:_FINGERPRINT_CHARACTERS] if self.archive is not None else "base"
        return f"fp_{self.base.weights_sha256[:_FINGERPRINT_CHARACTERS]}_{adapter}"

    def require_writing(self) -> None:
        """`InvalidInput` with the right place to ask, or the way to a model that can be asked."""
        if self.writes:
            return
        if self.predicts:
            message = (
                f"'{self.id}' continues no texts: it was tuned for {self.task}. "
                "Ask /v1/models/{model}/predict or /v1/chat/completions."
            )
        else:
            message = (
                f"'{self.id}' is an {self.kind.replace('_', '-')}, which neither holds conversations nor continues "
                "texts. Tune it for a task and ask the tuned model."
            )
        raise InvalidInput(message, code="unsupported_endpoint", param="model")
