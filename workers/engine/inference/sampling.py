"""How the next token is drawn: bias, penalties, temperature, nucleus; one random stream per choice."""

import secrets

import torch

from app.contracts.errors import usage
from app.contracts.specs import SamplingSpec

_NUCLEUS_CANDIDATES = 1024  # sorting a whole vocabulary costs more than the model's own last layer on a CPU


def check_logit_bias(spec: SamplingSpec, vocab_size: int) -> None:
    """Raises `usage` if the bias names a token the base does not have."""
    unknown = sorted(token for token in spec.logit_bias if not 0 <= token < vocab_size)
    if unknown:
        raise usage(
            "invalid_logit_bias",
            f"logit_bias names token {unknown[0]}, but this base has the tokens 0 to {vocab_size - 1}.",
            param="logit_bias",
        )


class TokenSampler:
    """Draws the tokens of one choice; its stream depends on the seed and the choice alone, not on the batch."""

    def __init__(self, spec: SamplingSpec, choice: int) -> None:
        self._spec = spec
        self._bias_ids = torch.tensor(list(spec.logit_bias), dtype=torch.long)
        self._bias = torch.tensor(list(spec.logit_bias.values()), dtype=torch.float32)
        self._has_penalties = spec.frequency_penalty != 0 or spec.presence_penalty != 0
        self._counts: dict[int, int] = {}
        self._random = torch.Generator()
        seed = secrets.randbits(62) if spec.seed is None else spec.seed
        self._random.manual_seed((seed * 0x9E3779B1 + choice) % 2**63)

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the answer is the argmax of the untouched logits."""
        return self._spec.temperature == 0 and not self._has_penalties and not self._spec.logit_bias

    def draw(self, logits: torch.Tensor) -> int:
        """The next token from fp32 logits [vocab] on the CPU; the tensor is left as it was."""
        adjusted = self._adjust(logits)
        if self._spec.temperature == 0:
            return int(adjusted.argmax())
        probabilities = torch.softmax(adjusted.double() / self._spec.temperature, dim=-1)
        token_ids: torch.Tensor | None = None
        if self._spec.top_p < 1:
            probabilities, token_ids = self._nucleus(probabilities)
        cumulative = probabilities.cumsum(-1)
        target = torch.rand((), generator=self._random, dtype=torch.float64) * cumulative[-1]
        place = min(int(torch.searchsorted(cumulative, target, right=True)), cumulative.numel() - 1)
        return place if token_ids is None else int(token_ids[place])

    def count(self, token_id: int) -> None:
        """Remember a drawn token for the penalties."""
        if self._has_penalties:
            self._counts[token_id] = self._counts.get(token_id, 0) + 1

    def _adjust(self, logits: torch.Tensor) -> torch.Tensor:
        if self.is_plain_greedy or not (self._spec.logit_bias or self._counts):
            return logits
        adjusted = logits.clone()
        if self._spec.logit_bias:
            adjusted[self._bias_ids] += self._bias
        if self._counts:
            seen = torch.tensor(list(self._counts), dtype=torch.long)
            counts = torch.tensor(list(self._counts.values()), dtype=torch.float32)
            adjusted[seen] -= counts * self._spec.frequency_penalty + self._spec.presence_penalty
        return adjusted

    def _nucleus(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The fewest most likely tokens whose probabilities reach `top_p`, and their ids."""
        size = min(_NUCLEUS_CANDIDATES, probabilities.numel())
        likely, token_ids = probabilities.topk(size)
        if float(likely.sum()) < self._spec.top_p:
            likely, token_ids = probabilities.sort(descending=True)
        before = likely.cumsum(-1) - likely
        inside = int((before < self._spec.top_p).sum())
        return likely[:inside], token_ids[:inside]
