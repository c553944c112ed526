"""Echo: the probability of every token of a prompt, as /v1/completions shows it."""

from collections.abc import Iterator

import torch

from app.contracts.generation import PromptScored, TokenLogprob
from workers.engine.base_model import ResidentBase
from workers.engine.inference.forward import logits_of
from workers.engine.inference.logprobs import first_prompt_token, token_logprobs
from workers.engine.inference.token_text import TokenText, Utf8Stream

_CHUNK_ROWS = 256  # rows of logits alive at once


def score_prompt(
    resident: ResidentBase,
    token_ids: tuple[int, ...],
    hidden: torch.Tensor,
    tokens: TokenText,
    *,
    text: str,
    hidden_tokens: int,
    alternatives: int | None,
) -> PromptScored:
    """The echoed text and, with `alternatives`, a logprob per token from hidden states [>= tokens, hidden].

    The first `hidden_tokens` tokens are no part of `text`.
    """
    if alternatives is None:
        return PromptScored(text=text)
    entries = [first_prompt_token(token_ids[0], tokens)]
    for start in range(0, len(token_ids) - 1, _CHUNK_ROWS):
        targets = token_ids[start + 1 : start + 1 + _CHUNK_ROWS]
        logits = logits_of(resident, hidden[start : start + len(targets)])
        entries += token_logprobs(logits, targets, alternatives=alternatives, tokens=tokens)
    return PromptScored(text=text, logprobs=tuple(_with_offsets(entries, tokens, hidden_tokens)))


def prompt_text(token_ids: tuple[int, ...], tokens: TokenText, *, hidden: int) -> str:
    """The prompt's text as offsets count it: special tokens by name, the first `hidden` tokens left out."""
    stream = Utf8Stream()
    return "".join(stream.push(tokens.bytes_of(token_id, show_special=True)) for token_id in token_ids[hidden:])


def _with_offsets(entries: list[TokenLogprob], tokens: TokenText, hidden: int) -> Iterator[TokenLogprob]:
    stream, offset = Utf8Stream(), 0
    for place, entry in enumerate(entries):
        yield entry.model_copy(update={"text_offset": offset})
        if place >= hidden:
            offset += len(stream.push(tokens.bytes_of(entry.token_id, show_special=True)))
