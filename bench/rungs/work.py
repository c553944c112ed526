"""How much arithmetic a token needs at the least, and so what a machine can train at the most.

A frozen weight costs 2 operations forward and 2 for the gradient of its input (no weight gradient): 4 N a token.
Causal attention costs 6 S h a layer and token (2 forward, 4 back; S: length of the row), the head only counts for
learned tokens, LoRA 6 operations a parameter.
"""

from dataclasses import dataclass
from typing import Any

from rungs.rows import TokenRow


@dataclass(frozen=True)
class Work:
    """Operations one token of this data needs on this model."""

    body: float
    head: float
    attention: float
    lora: float

    @property
    def flops_per_token(self) -> float:
        return self.body + self.head + self.attention + self.lora


def linear_shapes(config: Any) -> list[tuple[int, int]]:
    """(in, out) of the seven linear layers of one decoder layer."""
    hidden, inner = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    attention = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    return [*attention, (hidden, inner), (hidden, inner), (inner, hidden)]


def needed(config: Any, rows: list[TokenRow], rank: int) -> Work:
    lengths = [len(row.input_ids) for row in rows]
    tokens = sum(lengths)
    learned = sum(len(row.input_ids) - row.first_supervised for row in rows)
    shapes, layers = linear_shapes(config), config.num_hidden_layers
    return Work(
        body=4.0 * layers * sum(i * o for i, o in shapes),
        head=4.0 * config.hidden_size * config.vocab_size * learned / tokens,
        attention=6.0 * shapes[0][1] * layers * sum(n * n for n in lengths) / tokens,
        lora=6.0 * layers * rank * sum(i + o for i, o in shapes),
    )
