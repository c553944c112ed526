"""Models that say something of a text, asked as if they held conversations: the last user message is the text."""

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any, assert_never

from app.chat.answers import Answer, Choice
from app.chat.chat_shape import AnswerHead, ChatChunks, ChatForm
from app.chat.messages import template_messages
from app.chat.model_to_ask import ModelToAsk
from app.chat.schemas import ChatRequest
from app.chat.sse import event
from app.contracts.generation import TokenDelta, Usage
from app.contracts.predictions import Entities, Labels, Prediction, Predictions, PredictSpec, Written
from app.contracts.specs import AdapterRef
from app.datasets.tasks import Task
from app.errors import InvalidInput

Wire = dict[str, Any]


def question_spec(request: ChatRequest, model: ModelToAsk, adapter: AdapterRef) -> PredictSpec:
    """`InvalidInput` where no user speaks, or nothing may be written."""
    said = [message["content"] for message in template_messages(request.messages) if message["role"] == "user"]
    if not said:
        raise InvalidInput(
            f"'{model.id}' was tuned for {model.task} and reads the last user message, but there is "
            "none. Send the text in a message with the role 'user'.",
            param="messages",
        )
    spec = PredictSpec(base=model.base, adapter=adapter, inputs=(said[-1],))
    name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    limit = getattr(request, name)
    if limit is None or model.task != Task.SUMMARIZATION:
        return spec
    if limit == 0:
        raise InvalidInput(f"{name} is 0, but a text has at least one token.", param=name)
    return spec.model_copy(update={"max_new_tokens": limit})


def answer_of(found: Predictions, request: ChatRequest, model: ModelToAsk) -> Answer:
    """As many equal choices as were asked for; none of them costs anything beyond the first."""
    prediction = found.predictions[0]
    reason = prediction.finish_reason if isinstance(prediction, Written) else "stop"
    text = _content(prediction, model)
    return Answer(
        choices=[Choice(text=text, finish_reason=reason) for _ in range(request.n or 1)],
        usage=Usage(prompt_tokens=found.input_tokens, completion_tokens=found.output_tokens),
        prediction=prediction,
    )


def form_of(found: Predictions, request: ChatRequest, model: ModelToAsk) -> ChatForm:
    """How the answer is to look, with a warning of everything that had no effect on it."""
    return ChatForm(
        include_usage=request.wants_usage_chunk,
        warnings=tuple(_warnings(found, request, model)),
        metadata=request.metadata,
    )


async def events_of(head: AnswerHead, answer: Answer, form: ChatForm) -> AsyncGenerator[bytes, None]:
    """The answer as a stream: each choice in one piece."""
    for chunk in _chunks(head, answer, form):
        yield event(chunk)


def _chunks(head: AnswerHead, answer: Answer, form: ChatForm) -> Iterator[Wire]:
    chunks = ChatChunks(head, len(answer.choices), form)
    yield from chunks.start()
    for index, choice in enumerate(answer.choices):
        *pieces, last = chunks.push(TokenDelta(index=index, text=choice.text, finish_reason=choice.finish_reason))
        yield from pieces
        prediction = None if answer.prediction is None else answer.prediction.model_dump(mode="json")
        yield last | {"prediction": prediction}
    yield from chunks.end(answer.usage)


def _content(prediction: Prediction, model: ModelToAsk) -> str:
    match prediction:
        case Labels():
            return _json(prediction.chosen) if model.tuned.is_multi_label else prediction.chosen[0]
        case Entities():
            return _json([span.model_dump(include={"start", "end", "label", "text"}) for span in prediction.spans])
        case Written():
            return prediction.text
        case _:
            assert_never(prediction)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _warnings(found: Predictions, request: ChatRequest, model: ModelToAsk) -> Iterator[str]:
    task = model.task
    if len(request.messages) > 1:
        yield f"Only the last user message was read: this model was tuned for {task}, not for conversations."
    if found.truncated:
        yield f"The text is longer than the {model.base.context_length} tokens this model reads: its end was cut off."
    settings = {
        "tools": request.tools,
        "functions": request.functions,
        "logprobs": request.logprobs,
        "logit_bias": request.logit_bias,
        "stop": request.stop,
        "response_format": request.response_format is not None and request.response_format.type != "text",
    }
    idle = [name for name, value in settings.items() if value]
    if idle:
        yield f"Without effect on {task}: {', '.join(idle)}."
    if (request.n or 1) > 1:
        yield "All choices are the same: this model does not draw its answers."
