"""What is asked of whom, and when: fixed before the first request is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.load.arrivals import poisson_arrivals

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Limits:
    """What a request must keep to be a good one; None sets no limit."""

    ttft_seconds: float | None = None
    e2e_seconds: float | None = None

    @property
    def are_stated(self) -> bool:
        return self.ttft_seconds is not None or self.e2e_seconds is not None


@dataclass(frozen=True)
class LoadPlan:
    """One load for each of `models`, in turns: a block of the first, the same block of the second, and again.

    A block is `warm_up` requests whose times are thrown away, then its share of `requests`. All models get the same
    arrival times and the same prompts; a block begins when the last answer of the one before is in, so that no model
    waits behind another.
    """

    models: Sequence[str]
    prompts: Sequence[Messages]
    requests: int
    rate_per_second: float
    max_tokens: int
    rounds: int = 4
    warm_up: int = 3
    seed: int = 0
    timeout_seconds: float = 300.0

    def __post_init__(self) -> None:
        """ValueError for a load that cannot be run."""
        if not self.models or not self.prompts:
            raise ValueError("a load needs a model and a prompt")
        if not 0 < self.rounds <= self.requests:
            raise ValueError(f"{self.requests} requests cannot be shared by {self.rounds} rounds")
        if self.rate_per_second <= 0 or self.max_tokens <= 0 or self.timeout_seconds <= 0 or self.warm_up < 0:
            raise ValueError("rate, tokens and time limit must be above 0, and warm-up requests not below it")

    @property
    def expected_seconds(self) -> float:
        """How long it takes if the last answers come at once."""
        return len(self.models) * (self.requests + self.rounds * self.warm_up) / self.rate_per_second


@dataclass(frozen=True)
class Arrival:
    """One planned request: `at` in seconds from the start of its block."""

    at: float
    prompt: Messages
    is_warm_up: bool


@dataclass(frozen=True)
class Block:
    """What one model is asked in one round."""

    number: int
    model: str
    arrivals: tuple[Arrival, ...]


def blocks_of(plan: LoadPlan) -> tuple[Block, ...]:
    """All blocks in the order they are run: A B A B."""
    blocks: list[Block] = []
    asked = 0
    for turn in range(plan.rounds):
        share = plan.requests // plan.rounds + (turn < plan.requests % plan.rounds)
        times = poisson_arrivals(plan.rate_per_second, plan.warm_up + share, seed=f"{plan.seed}:{turn}")
        arrivals = tuple(
            Arrival(at, plan.prompts[(asked + place) % len(plan.prompts)], is_warm_up=place < plan.warm_up)
            for place, at in enumerate(times)
        )
        asked += len(times)
        blocks += [Block(len(blocks) + place, model, arrivals) for place, model in enumerate(plan.models)]
    return tuple(blocks)
