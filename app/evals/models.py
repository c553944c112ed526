"""Models as runs and graders ask them: through the service's own chat path."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from app.chat.asking import ask, reads_instructions
from app.chat.backend import Generator
from app.chat.chat_shape import AnswerHead
from app.chat.model_to_ask import ModelToAsk
from app.chat.schemas import ChatRequest
from app.contracts.specs import AdapterRef
from app.errors import InvalidInput
from app.evals.graders.asking import Reply, Sampling

# The escape of U+0000 in JSON, not a backslash before the text "u0000".
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class ModelAsker:
    """Keeps the contract of `Asker` for the models it was given, whose adapters are local files already."""

    def __init__(self, generator: Generator, models: Mapping[str, tuple[ModelToAsk, AdapterRef | None]]) -> None:
        self._generator = generator
        self._models = models

    def converses(self, model: str) -> bool:
        return reads_instructions(self._models[model][0])

    def context_length(self, model: str) -> int:
        return self._models[model][0].base.context_length

    async def ask(self, model: str, messages: Sequence[dict[str, Any]], sampling: Sampling) -> Reply:
        found, adapter = self._models[model]
        completion = await ask(
            self._generator, found, adapter, _request(model, messages, sampling), AnswerHead("", 0, model, "")
        )
        choice, usage = completion["choices"][0], completion["usage"]
        return Reply(
            model=model,
            message=_storable(choice["message"]),
            finish_reason=choice["finish_reason"] or "",
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
        )


def _storable(message: dict[str, Any]) -> dict[str, Any]:
    """A token may hold U+0000, which Postgres does not."""
    text = json.dumps(message)
    if "\\u0000" not in text:
        return message
    result: dict[str, Any] = json.loads(_NUL.sub(r"\1\\ufffd", text))
    return result


def _request(model: str, messages: Sequence[dict[str, Any]], sampling: Sampling) -> ChatRequest:
    body = {
        "model": model,
        "messages": list(messages),
        "max_completion_tokens": sampling.max_completion_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "response_format": sampling.response_format,
        "tools": sampling.tools,
    }
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise InvalidInput(f"'{model}' cannot be asked this: {where}: {first['msg']}", param=where) from None
