"""When requests come: a Poisson process, drawn before the run and never moved by how fast answers come."""

import random


def poisson_arrivals(rate_per_second: float, count: int, *, seed: str) -> tuple[float, ...]:
    """`count` ascending times in seconds from 0; gaps are exponential with mean `1 / rate_per_second`.

    The same seed gives the same times. Raises ValueError unless rate and count are above 0.
    """
    if rate_per_second <= 0 or count <= 0:
        raise ValueError("a load needs a rate and a number of requests above 0")
    draw = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    times, now = [], 0.0
    for _ in range(count):
        now += draw.expovariate(rate_per_second)
        times.append(now)
    return tuple(times)
