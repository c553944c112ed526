"""What answers cost, from what the machine costs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """In the currency of `price_per_hour`. Token figures are None where no token was counted."""

    price_per_hour: float
    utilisation: float
    per_1000_requests: float
    per_million_answer_tokens: float | None
    per_million_tokens: float | None


def cost_of(
    *,
    price_per_hour: float,
    utilisation: float,
    requests_per_second: float,
    answer_tokens_per_second: float,
    tokens_per_second: float | None,
) -> Cost | None:
    """At the measured throughput in a share `utilisation` of the hours paid, and nothing in the rest.

    `tokens_per_second` counts prompts too. None where no request succeeded. Raises ValueError for a price below 0 or
    a utilisation outside (0, 1].
    """
    if price_per_hour < 0 or not 0 < utilisation <= 1:
        raise ValueError("a price is not below 0, and a utilisation is above 0 and at most 1")
    if requests_per_second <= 0:
        return None
    per_second = price_per_hour / 3600 / utilisation
    return Cost(
        price_per_hour=price_per_hour,
        utilisation=utilisation,
        per_1000_requests=1000 * per_second / requests_per_second,
        per_million_answer_tokens=_per_million(per_second, answer_tokens_per_second),
        per_million_tokens=_per_million(per_second, tokens_per_second),
    )


def _per_million(price_per_second: float, tokens_per_second: float | None) -> float | None:
    return 1e6 * price_per_second / tokens_per_second if tokens_per_second else None
