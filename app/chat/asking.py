"""A whole answer without HTTP: the same way to a model as `/v1/chat/completions`, for graders and eval runs."""

from typing import Any

from app.chat.answers import collect
from app.chat.backend import Generator
from app.chat.chat_shape import AnswerHead, chat_completion
from app.chat.model_to_ask import ModelToAsk
from app.chat.prediction_answers import answer_of, form_of, question_spec
from app.chat.requests import chat_form, chat_spec
from app.chat.schemas import ChatRequest
from app.contracts.specs import AdapterRef


def reads_instructions(model: ModelToAsk) -> bool:
    """Whether a conversation reaches the model as one; others say something of the last user message."""
    return model.archive is None or not model.predicts or model.converses


async def ask(
    generator: Generator, model: ModelToAsk, adapter: AdapterRef | None, request: ChatRequest, head: AnswerHead
) -> dict[str, Any]:
    """The completion as on the wire. `AppError` if there is none."""
    if adapter is not None and not reads_instructions(model):
        found = await generator.predict(question_spec(request, model, adapter))
        return chat_completion(head, answer_of(found, request, model), form_of(found, request, model))
    model.require_writing()
    spec = chat_spec(request, model.base, adapter)
    return chat_completion(head, await collect(generator, spec), chat_form(request, spec))
