"""Wire shapes of what callers send: chat completions, text completions, metadata of stored ones.

Fields that cannot change an answer here are in `IGNORED_FIELDS`; `docs/chat.md` lists them too.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

IGNORED_FIELDS = frozenset(
    {
        "audio",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "suffix",
        "user",
        "verbosity",
        "web_search_options",
    }
)

MAX_CHOICES = 16
MAX_PROMPTS = 256


def _four_stops(stops: str | list[str] | None) -> str | list[str] | None:
    values = [stops] if isinstance(stops, str) else stops or []
    if len(values) > 4:
        raise ValueError(f"at most 4 stop strings are allowed, not {len(values)}")
    if "" in values:
        raise ValueError("a stop string must not be empty: it would end every answer at once")
    return stops


def _token_biases(biases: dict[str, float] | None) -> dict[str, float] | None:
    for token, bias in (biases or {}).items():
        if not -100 <= bias <= 100:
            raise ValueError(f"the bias of token {token} is {bias}, but must lie between -100 and 100")
        if bias != 0 and not token.isdecimal():
            raise ValueError(f"'{token}' is not a token id; keys are whole numbers written as strings")
    return biases


def _metadata_size(metadata: dict[str, str] | None) -> dict[str, str] | None:
    if metadata is not None and len(metadata) > 16:
        raise ValueError(f"at most 16 pairs are allowed, not {len(metadata)}")
    return metadata


Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]] | None,
    AfterValidator(_metadata_size),
]
StopStrings = Annotated[str | list[str] | None, AfterValidator(_four_stops)]
LogitBias = Annotated[dict[str, float] | None, AfterValidator(_token_biases)]


class StreamOptions(BaseModel):
    include_usage: bool | None = None


class _Sampling(BaseModel):
    """What both endpoints share. `null` always means the same as leaving the field out."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str = Field(min_length=1)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = None
    stop: StopStrings = None
    max_tokens: int | None = Field(default=None, ge=0)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: LogitBias = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage_chunk(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class Message(BaseModel):
    """One message of a conversation; parts of content are read by `messages`."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None


class Function(BaseModel):
    """The deprecated form of a tool."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=64)


class Tool(BaseModel):
    """A tool as the chat template gets it; other kinds than functions are refused."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    function: Function


class NamedFunction(BaseModel):
    name: str


class NamedTool(BaseModel):
    """A tool_choice that names one function."""

    type: Literal["function"]
    function: NamedFunction


class ResponseFormat(BaseModel):
    """Accepted, and answered with a warning: what a model writes is not constrained."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]


class ChatRequest(_Sampling):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=0)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    functions: list[Function] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    modalities: list[str] | None = None
    metadata: Metadata = None
    store: bool | None = None

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        if self.modalities is not None and "text" not in self.modalities:
            raise ValueError("modalities must include 'text': the models here answer in text only")
        return self


class CompletionRequest(_Sampling):
    """POST /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
    best_of: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _choices_are_all_returned(self) -> Self:
        if self.best_of and self.best_of != (self.n or 1):
            raise ValueError("best_of must equal n: answers are not ranked and dropped here; ask for n answers")
        return self


class MetadataUpdate(BaseModel):
    """POST /v1/chat/completions/{id}; `null` removes all pairs."""

    metadata: Metadata
