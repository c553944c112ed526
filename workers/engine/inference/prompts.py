"""Requests in tokens: what they ask for, whether they fit, which are prefilled together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.contracts.errors import usage
from app.contracts.specs import SamplingSpec
from workers.engine.base_model import ResidentBase

_PREFILL_TOKENS = 4_096  # padded tokens of one prefill forward


@dataclass(frozen=True)
class Echo:
    """The prompt's text to send back; its first `hidden` tokens (a BOS we added) are no part of it."""

    text: str
    hidden: int = 0


@dataclass(frozen=True)
class Prompt:
    """One request in tokens. `key` is the caller's and comes back with every event."""

    key: int
    token_ids: tuple[int, ...]
    sampling: SamplingSpec
    n: int = 1
    echo: Echo | None = None
    ignores_end_tokens: bool = False  # to measure speed over a fixed number of tokens


def token_limit(prompt: Prompt, resident: ResidentBase) -> int:
    """How many tokens a choice may have. Raises `usage` if the prompt, or what is asked for, is too long."""
    context, asked = resident.ref.context_length, prompt.sampling.max_new_tokens
    length = len(prompt.token_ids)
    if length == 0:
        raise usage("empty_prompt", "The prompt has no tokens; give at least one.", param="prompt")
    room = context - length
    if room < (1 if asked else 0):
        raise usage(
            "context_length_exceeded",
            f"The prompt has {length} tokens, but this base's context is {context} tokens. Shorten the prompt.",
            param="prompt",
        )
    if asked > room and not prompt.sampling.clip_to_context:
        raise usage(
            "context_length_exceeded",
            f"The prompt has {length} tokens and {asked} more were asked for: {length + asked} in all, but this base's "
            f"context is {context} tokens. Shorten the prompt or ask for at most {room} tokens.",
            param="max_tokens",
        )
    return min(asked, room)


def prefill_groups(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """Prompts of similar length together, so that little of a padded prefill is padding."""
    group: list[Prompt] = []
    for prompt in sorted(prompts, key=lambda prompt: len(prompt.token_ids)):
        longest = len(prompt.token_ids)
        if group and ((len(group) + 1) * longest > _PREFILL_TOKENS or longest > 1.5 * len(group[0].token_ids) + 16):
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group
