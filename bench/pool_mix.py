"""A week of jobs of fifty teams, drawn from heavy tails: what `bench/pool_sim.py` runs."""

import random
from dataclasses import dataclass

WEEK = 7 * 86_400.0
HOUR = 3_600.0
GB = 10**9
BASES = tuple(f"base-{number}" for number in range(8))
SMALL_BYTES, LARGE_BYTES = 10 * GB, 40 * GB
_WEIGHTS = (4.0,) * 5 + (2.0,) * 15 + (1.0,) * 30


@dataclass(frozen=True, slots=True)
class MixedJob:
    number: int
    name: str
    team: str
    arrives: float
    seconds: float
    priority: int
    base: str
    is_large: bool


@dataclass(frozen=True)
class Mix:
    weights: dict[str, float]
    asked: dict[str, float]
    """GPU-seconds of each team's jobs."""
    jobs: list[MixedJob]


def draw(seed: int, gpus: int, load: float) -> Mix:
    """Jobs that ask for `load` times what the GPUs can do in a week.

    Teams ask for lognormal multiples of their share (sigma 1), in batches that come three times as often by day as by
    night and hardly on the last two days. A batch has a bounded Pareto number of jobs (shape 1.1, 1 to 200), each of a
    lognormal length (median 75 minutes, sigma 1.3, 2 minutes to 48 hours).
    """
    chance = random.Random(seed)  # noqa: S311 - a seeded mix, no secret
    weights = {f"team-{number:02}": weight for number, weight in enumerate(_WEIGHTS)}
    wish = {team: weight * chance.lognormvariate(0.0, 1.0) for team, weight in weights.items()}
    scale = load * gpus * WEEK / sum(wish.values())
    found: list[tuple[float, str, float, int, str, bool]] = []
    for team, part in wish.items():
        left = part * scale
        favourites = chance.sample(BASES, 3)
        while left > 0:
            arrives = _moment(chance)
            base = chance.choices(favourites, (6, 3, 1))[0]
            priority = chance.choices((-1, 0, 1), (2, 7, 1))[0]
            is_large = chance.random() < 0.3
            for _ in range(_batch(chance)):
                seconds = min(48 * HOUR, max(120.0, chance.lognormvariate(8.41, 1.3)))
                found.append((arrives, team, seconds, priority, base, is_large))
                left -= seconds
                if left <= 0:
                    break
    found.sort()
    jobs = [
        MixedJob(number, f"job-{number:06}", team, arrives, seconds, priority, base, is_large)
        for number, (arrives, team, seconds, priority, base, is_large) in enumerate(found)
    ]
    asked = dict.fromkeys(weights, 0.0)
    for job in jobs:
        asked[job.team] += job.seconds
    return Mix(weights, asked, jobs)


def _batch(chance: random.Random) -> int:
    """Bounded Pareto by inversion."""
    low, high, shape = 1.0, 200.0, 1.1
    return int(low / (1 - chance.random() * (1 - (low / high) ** shape)) ** (1 / shape))


def _moment(chance: random.Random) -> float:
    """Of the week, by rejection: days and nights, five days of work."""
    while True:
        at = chance.uniform(0, WEEK)
        day, hour = divmod(at / HOUR, 24)
        rate = (3.0 if 8 <= hour < 20 else 1.0) * (1.0 if day < 5 else 0.4)
        if chance.random() * 3.0 < rate:
            return at
