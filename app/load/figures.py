"""The figures of one model under load, from its records."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from app.load.answer import Answer, Record
from app.load.percentiles import Interval, bootstrap, percentile
from app.load.plan import Limits

Time = Callable[[Record], float | None]
TIMES: dict[str, Time] = {
    "time_to_first_token": lambda record: record.ttft_seconds,
    "time_per_output_token": lambda record: record.tpot_seconds,
    "request.duration": lambda record: record.e2e_seconds,
}


@dataclass(frozen=True)
class Times:
    """In seconds, over the `n` requests that have this time; `p95_interval` is a bootstrap."""

    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p95_interval: Interval | None


@dataclass(frozen=True)
class Lengths:
    """In tokens."""

    mean: float
    p50: float
    p95: float
    longest: int


@dataclass(frozen=True)
class Goodput:
    """Requests that kept every stated limit; failed ones never do."""

    requests: int
    share: float
    requests_per_second: float


@dataclass(frozen=True)
class Throughput:
    """Successful requests and their tokens over the `seconds` from the first planned arrival to the last end.

    `tokens_per_second` counts prompts too, and is None where the service does not count those. `busy_share` is the
    share of those seconds in which an answer was awaited.
    """

    seconds: float
    busy_share: float
    requests_per_second: float
    answer_tokens_per_second: float
    tokens_per_second: float | None


@dataclass(frozen=True)
class Concurrency:
    """Requests that were planned and unanswered at the same time; the service may have held them in its queue.

    `left` is how many were unanswered when the last one of a block came, `left_halfway` when the middle one did, summed
    over blocks: the service keeps up where these are alike.
    """

    mean: float
    peak: int
    left: int
    left_halfway: int


@dataclass(frozen=True)
class Rise:
    """How much higher a p95 is than the base's, as a share of it: over all requests, and turn by turn.

    The interval, of paired resamples, knows chance between requests. It does not know what else the machine did while
    one of the models had its turn; that the turns agree is what speaks against that.
    """

    share: float
    interval: Interval
    by_turn: tuple[float | None, ...]


@dataclass(frozen=True)
class ModelFigures:
    """`times` by the names of `TIMES`, None where no request has one. `sent_late` is this program's own delay."""

    requests: int
    errors: dict[str, int]
    first_error: str | None
    times: dict[str, Times | None]
    prompt_lengths: Lengths | None
    answer_lengths: Lengths | None
    are_tokens_counted_by_service: bool
    throughput: Throughput
    goodput: Goodput | None
    concurrency: Concurrency
    sent_late_p99_seconds: float

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


def figures_of(records: Sequence[Record], limits: Limits, *, seed: int) -> ModelFigures:
    """Of at least one record, in planned order; raises ValueError for none."""
    answers = [record.answer for record in records if record.answer is not None]
    throughput = _throughput(records, answers)
    return ModelFigures(
        requests=len(records),
        errors=dict(Counter(str(record.error_kind) for record in records if record.answer is None)),
        first_error=next((record.error for record in records if record.answer is None), None),
        times={name: _times(records, time, seed=seed) for name, time in TIMES.items()},
        prompt_lengths=_lengths([answer.prompt_tokens for answer in answers if answer.prompt_tokens is not None]),
        answer_lengths=_lengths([answer.answer_tokens for answer in answers]),
        are_tokens_counted_by_service=all(answer.is_counted_by_service for answer in answers),
        throughput=throughput,
        goodput=_goodput(records, limits, throughput.seconds) if limits.are_stated else None,
        concurrency=_concurrency(records, throughput.seconds),
        sent_late_p99_seconds=percentile([record.sent - record.planned for record in records], 99),
    )


def p95_rise(base: Sequence[Record], other: Sequence[Record], time: Time, *, seed: int) -> Rise | None:
    """The p95 of `other` against that of `base`, whose records are of the same arrivals and prompts, place by place.

    None where a p95 cannot be said.
    """
    times = [time(record) for record in base], [time(record) for record in other]

    def rise(places: Sequence[int]) -> float | None:
        before, after = (_p95(found, places) for found in times)
        return None if not before or after is None else after / before - 1

    share, interval = rise(range(len(base))), bootstrap(len(base), rise, seed=seed)
    if share is None or interval is None:
        return None
    start, by_turn = 0, []
    for block in _blocks(base):
        by_turn.append(rise(range(start, start + len(block))))
        start += len(block)
    return Rise(share, interval, tuple(by_turn))


def _p95(times: Sequence[float | None], places: Sequence[int]) -> float | None:
    values = [value for place in places if (value := times[place]) is not None]
    return percentile(values, 95) if values else None


def _times(records: Sequence[Record], time: Time, *, seed: int) -> Times | None:
    times = [time(record) for record in records]
    values = [value for value in times if value is not None]
    if not values:
        return None
    p50, p90, p95, p99 = (percentile(values, percent) for percent in (50, 90, 95, 99))
    interval = bootstrap(len(records), lambda places: _p95(times, places), seed=seed)
    return Times(len(values), sum(values) / len(values), p50, p90, p95, p99, interval)


def _lengths(tokens: Sequence[int]) -> Lengths | None:
    if not tokens:
        return None
    return Lengths(sum(tokens) / len(tokens), percentile(tokens, 50), percentile(tokens, 95), max(tokens))


def _throughput(records: Sequence[Record], answers: Sequence[Answer]) -> Throughput:
    seconds = busy = 0.0
    for block in _blocks(records):
        seconds += max(record.ended for record in block) - block[0].planned
        busy += _covered(block)
    answered = sum(answer.answer_tokens for answer in answers)
    asked = [answer.prompt_tokens for answer in answers if answer.prompt_tokens is not None]
    return Throughput(
        seconds=seconds,
        busy_share=busy / seconds,
        requests_per_second=len(answers) / seconds,
        answer_tokens_per_second=answered / seconds,
        tokens_per_second=(answered + sum(asked)) / seconds if answers and len(asked) == len(answers) else None,
    )


def _goodput(records: Sequence[Record], limits: Limits, seconds: float) -> Goodput:
    good = sum(_keeps(record, limits) for record in records)
    return Goodput(good, good / len(records), good / seconds)


def _keeps(record: Record, limits: Limits) -> bool:
    pairs = ((record.ttft_seconds, limits.ttft_seconds), (record.e2e_seconds, limits.e2e_seconds))
    return all(limit is None or (taken is not None and taken <= limit) for taken, limit in pairs)


def _concurrency(records: Sequence[Record], seconds: float) -> Concurrency:
    peak = left = left_halfway = 0
    for block in _blocks(records):
        # At one moment, ends come before arrivals.
        moments = sorted([(record.ended, -1) for record in block] + [(record.planned, 1) for record in block])
        now = 0
        for _, step in moments:
            now += step
            peak = max(peak, now)
        left += _unanswered(block)
        left_halfway += _unanswered(block[: (len(block) + 1) // 2])
    mean = sum(record.ended - record.planned for record in records) / seconds
    return Concurrency(mean, peak, left, left_halfway)


def _unanswered(asked: Sequence[Record]) -> int:
    """Requests before the last one that were still unanswered when it came."""
    return sum(record.ended > asked[-1].planned for record in asked[:-1])


def _covered(block: Sequence[Record]) -> float:
    """Seconds in which at least one of the requests was unanswered."""
    covered, until = 0.0, block[0].planned
    for record in block:
        covered += max(0.0, record.ended - max(until, record.planned))
        until = max(until, record.ended)
    return covered


def _blocks(records: Sequence[Record]) -> list[list[Record]]:
    """Times of different blocks are not to be put together: other models were asked between."""
    return [list(group) for _, group in groupby(records, key=lambda record: record.block)]
