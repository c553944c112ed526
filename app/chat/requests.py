"""From a caller's request to the specs of the serving engine."""

from app.chat.chat_shape import ChatForm
from app.chat.messages import template_messages, template_tools
from app.chat.schemas import MAX_PROMPTS, ChatRequest, CompletionRequest, NamedFunction, NamedTool
from app.chat.text_shape import TextForm
from app.contracts.specs import AdapterRef, BaseRef, GenerateSpec, SamplingSpec
from app.errors import InvalidInput

_DEFAULT_COMPLETION_TOKENS = 16
# top_p 0 means the likeliest token only; the engine wants a share above 0.
_LEAST_TOP_P = 1e-9


def chat_spec(request: ChatRequest, base: BaseRef, adapter: AdapterRef | None) -> GenerateSpec:
    """The one spec of a conversation. A limit is an upper bound: the context length may end the answer sooner."""
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    return GenerateSpec(
        base=base,
        adapter=adapter,
        messages=template_messages(request.messages),
        tools=template_tools(request),
        n=request.n or 1,
        sampling=_sampling(
            request,
            max_new_tokens=base.context_length if limit is None else limit,
            clip_to_context=True,
            logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        ),
    )


def chat_form(request: ChatRequest, spec: GenerateSpec) -> ChatForm:
    """How the answer to this conversation is to look."""
    return ChatForm(
        logprobs=bool(request.logprobs),
        tool_names=tuple(tool["function"]["name"] for tool in spec.tools or ()),
        is_function_style=request.tools is None and spec.tools is not None,
        include_usage=request.wants_usage_chunk,
        warnings=_warnings(request),
        metadata=request.metadata,
    )


def completion_specs(request: CompletionRequest, base: BaseRef, adapter: AdapterRef | None) -> tuple[GenerateSpec, ...]:
    """One spec for each prompt."""
    sampling = _sampling(
        request,
        max_new_tokens=_DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens,
        clip_to_context=request.max_tokens is None,
        logprobs=request.logprobs,
    )
    return tuple(
        GenerateSpec(
            base=base,
            adapter=adapter,
            prompt=prompt,
            echo=bool(request.echo),
            n=request.n or 1,
            sampling=sampling,
        )
        for prompt in _prompts(request.prompt)
    )


def completion_form(request: CompletionRequest) -> TextForm:
    return TextForm(request.n or 1, request.logprobs, request.wants_usage_chunk)


def _prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | tuple[int, ...]]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidInput("'prompt' is an empty list; send at least one prompt.", param="prompt")
    result: list[str | tuple[int, ...]] = []
    whole: list[int] = []
    for item in prompt:
        if isinstance(item, int):
            whole.append(item)
        else:
            result.append(item if isinstance(item, str) else tuple(item))
    if whole:
        return [tuple(whole)]
    if len(result) > MAX_PROMPTS:
        raise InvalidInput(
            f"'prompt' has {len(result)} prompts; at most {MAX_PROMPTS} fit into one request. Send several requests.",
            param="prompt",
        )
    return result


def _sampling(
    request: ChatRequest | CompletionRequest, *, max_new_tokens: int, clip_to_context: bool, logprobs: int | None
) -> SamplingSpec:
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return SamplingSpec(
        max_new_tokens=max_new_tokens,
        clip_to_context=clip_to_context,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else max(request.top_p, _LEAST_TOP_P),
        seed=request.seed,
        stop=stop,
        logprobs=logprobs,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        logit_bias={int(token): bias for token, bias in (request.logit_bias or {}).items() if bias != 0},
    )


def _warnings(request: ChatRequest) -> tuple[str, ...]:
    """What was asked for and cannot be promised."""
    warnings: list[str] = []
    if request.response_format is not None and request.response_format.type != "text":
        warnings.append(
            f"response_format '{request.response_format.type}' is not enforced: ask for JSON in your messages and "
            "check the answer."
        )
    if request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool):
        warnings.append("tool_choice is not enforced: the model sees the tools and may still answer in text.")
    if isinstance(request.function_call, NamedFunction) and request.functions:
        warnings.append("function_call is not enforced: the model sees the function and may still answer in text.")
    return tuple(warnings)
