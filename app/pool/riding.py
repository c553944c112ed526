"""Which jobs may ride together in one worker's process: one pure rule.

It says who may, never who does: a job rides only when it is the one that this GPU would be given next anyway. So
sharing overtakes nobody; it gives a job its turn before the GPU is free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

SMALL_TOKENS = 1_000_000
"""Of all epochs, of a job whose time nobody can estimate yet."""


@dataclass(frozen=True, slots=True)
class Ride:
    """What of a training matters to those beside it. Full fine-tuning and evaluations have none."""

    quantization: str
    shared_bytes: int
    """Held once, whoever rides: the base, and a process with its libraries."""
    own_bytes: int
    """Held as long as it rides: its adapter with gradient and optimiser."""
    in_turn_bytes: int
    """Held in its own steps only."""
    tokens: int
    """Of all epochs."""
    seconds: float | None = None
    """That it is expected to take alone; None: nobody knows."""

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Self | None:
        """As a job's row holds it."""
        return None if stored is None else cls(**stored)


@dataclass(frozen=True, slots=True)
class Rider:
    """A job that has a seat, or may get one."""

    job_id: str
    team_id: str
    weights_sha256: str
    ride: Ride | None
    """None: it rides alone, by its kind or because a process in which it rode with others has died."""
    may_share: bool = True
    """Whether its team lets it ride with other teams' jobs."""
    is_asked: bool = False
    """It was asked to let go of the GPU and has not yet."""


@dataclass(frozen=True, slots=True)
class Seats:
    """What a worker offers, and what counts as small: the operator's settings."""

    number: int
    small_seconds: float
    memory_bytes: int | None = None
    """Of the device; None: not said, and trusted."""


def takes_company(riders: Sequence[Rider], seats: Seats) -> bool:
    """Whether anybody at all may join these."""
    return 0 < len(riders) < seats.number and all(one.ride is not None and not one.is_asked for one in riders)


def may_join(job: Rider, riders: Sequence[Rider], seats: Seats) -> bool:
    """Whether this job may ride beside these."""
    everyone = (*riders, job)
    rides = [one.ride for one in everyone if one.ride is not None]
    return (
        takes_company(riders, seats)
        and len(rides) == len(everyone)
        and len({(one.weights_sha256, ride.quantization) for one, ride in zip(everyone, rides, strict=True)}) == 1
        and all(_is_small(ride, seats) for ride in rides)
        and all(_lives_with(job, other) for other in riders)
        and (seats.memory_bytes is None or bytes_together(rides) <= seats.memory_bytes)
    )


def bytes_together(rides: Sequence[Ride]) -> int:
    """What they take at once: the base once, and the micro-batch of one at a time."""
    shared, in_turn = max(one.shared_bytes for one in rides), max(one.in_turn_bytes for one in rides)
    return shared + in_turn + sum(one.own_bytes for one in rides)


def _is_small(ride: Ride, seats: Seats) -> bool:
    return ride.tokens <= SMALL_TOKENS if ride.seconds is None else ride.seconds <= seats.small_seconds


def _lives_with(one: Rider, other: Rider) -> bool:
    """Jobs of one team always; of two teams only where both allow it."""
    return one.team_id == other.team_id or (one.may_share and other.may_share)
