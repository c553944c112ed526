"""What the serving process says while it generates: one JSON object a line (NDJSON).

A request is a `GenerateSpec` (see `specs`), POSTed to `/generate`. The answer is a stream of lines:

    prompt?  delta*  done        a whole answer
    prompt?  delta*  error       it broke after the stream had begun; nothing follows

`prompt` comes once, first, and only with `echo`. Each choice (`index` 0 … n-1) ends with exactly one
delta that has a `finish_reason`. A stream that ends without `done` or `error` was cut: treat it as an error.
Errors before the first line are answered with an HTTP status and one `ErrorLine` as the body:
400 usage, 401 token, 503 transient (try again), 500 fatal.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from app.contracts.base import Contract
from app.contracts.errors import WorkerError

FinishReason = Literal["stop", "length"]


class TopLogprob(Contract):
    """One alternative at a position."""

    token: str = Field(description="the token's text; bytes that are no UTF-8 by themselves show as U+FFFD")
    token_id: int
    bytes: tuple[int, ...]
    logprob: float = Field(description="natural logarithm, from the model's own distribution before temperature")


class TokenLogprob(Contract):
    """One token of the text with its probability and, where asked for, the most likely alternatives."""

    token: str
    token_id: int
    bytes: tuple[int, ...]
    logprob: float | None = Field(description="None only for the first token of a prompt")
    text_offset: int = Field(
        description="characters before this token in the returned text (prompt included if echoed)"
    )
    top: tuple[TopLogprob, ...] | None = Field(
        description="most likely first, as many as asked for; None only for the first token of a prompt"
    )


class PromptScored(Contract):
    """The echoed prompt; for every choice the same."""

    kind: Literal["prompt"] = "prompt"
    text: str
    logprobs: tuple[TokenLogprob, ...] | None = Field(default=None, description="present if logprobs were asked for")


class TokenDelta(Contract):
    """What one step added to one choice.

    `text` may be empty while a UTF-8 character or a possible stop string is incomplete; tokens and
    logprobs are held back with their text, so that joining the deltas gives matching lists. A stop
    string, and the token that ends an answer, are never part of `text`, `token_ids` or `logprobs`.
    """

    kind: Literal["delta"] = "delta"
    index: int = Field(ge=0, description="the choice, 0 … n-1")
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None
    ending: TokenLogprob | None = Field(
        default=None, description="the token that ended the answer, where logprobs were asked for; no part of the text"
    )


class Usage(Contract):
    """Tokens as billed by the usual rules: the prompt once, completions of all choices summed."""

    prompt_tokens: int
    completion_tokens: int = Field(description="tokens drawn, the ending token included")


class Timing(Contract):
    """Milliseconds on the serving process's clock, from the arrival of the request."""

    queued_ms: float
    time_to_first_token_ms: float | None = Field(description="None if no token was asked for")
    total_ms: float


class Done(Contract):
    """The last line of a whole answer."""

    kind: Literal["done"] = "done"
    usage: Usage
    timing: Timing


class ErrorLine(Contract):
    """The last line of an answer that broke, and the body of an error before the stream."""

    kind: Literal["error"] = "error"
    error: WorkerError


GenerationLine = Annotated[
    PromptScored | TokenDelta | Done | ErrorLine,
    Field(discriminator="kind"),
]

generation_line_adapter: TypeAdapter[GenerationLine] = TypeAdapter(GenerationLine)
