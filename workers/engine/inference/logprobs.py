"""Probabilities of tokens as the wire shows them, from the model's own distribution."""

from collections.abc import Sequence

import torch

from app.contracts.generation import TokenLogprob, TopLogprob
from workers.engine.inference.token_text import TokenText


def token_logprobs(
    logits: torch.Tensor, token_ids: Sequence[int], *, alternatives: int, tokens: TokenText
) -> list[TokenLogprob]:
    """One entry for each row of fp32 logits [rows, vocab]; `text_offset` is left 0 for the caller to fill in."""
    logprobs = torch.log_softmax(logits, dim=-1)
    ids = torch.tensor(list(token_ids), device=logits.device)
    chosen = logprobs.gather(1, ids[:, None])[:, 0].tolist()
    values, places = logprobs.topk(alternatives, dim=-1) if alternatives else (logprobs[:, :0], ids[:, None][:, :0])
    return [
        TokenLogprob(
            token=tokens.label(token_id),
            token_id=token_id,
            bytes=tuple(tokens.bytes_of(token_id, show_special=True)),
            logprob=logprob,
            text_offset=0,
            top=tuple(_top(tokens, i, value) for i, value in zip(top_ids, top_values, strict=True)),
        )
        for token_id, logprob, top_ids, top_values in zip(
            token_ids, chosen, places.tolist(), values.tolist(), strict=True
        )
    ]


def first_prompt_token(token_id: int, tokens: TokenText) -> TokenLogprob:
    """The first token of a prompt has nothing before it, hence no probability."""
    return TokenLogprob(
        token=tokens.label(token_id),
        token_id=token_id,
        bytes=tuple(tokens.bytes_of(token_id, show_special=True)),
        logprob=None,
        text_offset=0,
        top=None,
    )


def _top(tokens: TokenText, token_id: int, logprob: float) -> TopLogprob:
    return TopLogprob(
        token=tokens.label(token_id),
        token_id=token_id,
        bytes=tuple(tokens.bytes_of(token_id, show_special=True)),
        logprob=logprob,
    )
