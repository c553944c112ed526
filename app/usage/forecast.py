"""How many tokens and GPU-seconds a job will take, from what earlier jobs on the same base took. Pure.

Seconds are a straight line in tokens, fitted by least squares: a start that every job pays (loading, evaluation), and a
price for each token. Neither may be negative.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, median

# Of English in JSON, quotes and keys included, where a base has trained nothing yet.
ASSUMED_TOKENS_PER_BYTE = 0.25


@dataclass(frozen=True)
class EarlierJob:
    """A training that succeeded at its first attempt."""

    file_bytes: int
    row_share: float
    """Of the file's rows that trained."""
    epoch_tokens: int
    trained_tokens: int
    gpu_seconds: float
    device_kind: str


@dataclass(frozen=True)
class Forecast:
    """A figure and where it comes from; None with the reason where nothing is known."""

    value: float | None
    basis: str


def tokens_per_byte(jobs: Sequence[EarlierJob]) -> Forecast:
    """Real tokens of a byte of training file."""
    ratios = [job.epoch_tokens / (job.file_bytes * job.row_share) for job in jobs if job.file_bytes and job.row_share]
    if not ratios:
        return Forecast(
            ASSUMED_TOKENS_PER_BYTE, "assumed: a token for every 4 bytes; no earlier job on this base has been measured"
        )
    return Forecast(median(ratios), f"the file's bytes by the ratio of {_jobs(len(ratios))} on this base")


def likely_device(jobs: Sequence[EarlierJob], pool_kinds: Collection[str]) -> str | None:
    """The kind of device that the pool has and most earlier jobs ran on; None if nothing is known."""
    known = Counter(job.device_kind for job in jobs if not pool_kinds or job.device_kind in pool_kinds)
    if known:
        return known.most_common(1)[0][0]
    return min(pool_kinds) if len(pool_kinds) == 1 else None


def gpu_seconds(jobs: Sequence[EarlierJob], device_kind: str | None, tokens: float) -> Forecast:
    """From the claim to the end, evaluation included."""
    measured = [job for job in jobs if job.device_kind == device_kind and job.trained_tokens > 0]
    if device_kind is None or not measured:
        return Forecast(None, "unknown: no job on this base has succeeded on a device of this pool yet")
    start, by_token = line([float(job.trained_tokens) for job in measured], [job.gpu_seconds for job in measured])
    return Forecast(start + by_token * tokens, f"measured: {_jobs(len(measured))} on this base and {device_kind}")


def line(tokens: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """(seconds at the start, seconds a token) by least squares, neither below 0."""
    mean_tokens, mean_seconds = fmean(tokens), fmean(seconds)
    spread = sum((count - mean_tokens) ** 2 for count in tokens)
    if spread == 0:
        return 0.0, mean_seconds / mean_tokens
    together = sum((count - mean_tokens) * (took - mean_seconds) for count, took in zip(tokens, seconds, strict=True))
    by_token = max(0.0, together / spread)
    start = mean_seconds - by_token * mean_tokens
    if start >= 0:
        return start, by_token
    through_zero = sum(count * took for count, took in zip(tokens, seconds, strict=True))
    return 0.0, through_zero / sum(count**2 for count in tokens)


def error_percent(quoted: float | None, billed: float) -> float | None:
    """How far the quote was off, in percent of what was billed: above 0 it was too high."""
    if quoted is None or billed <= 0:
        return None
    return round(100 * (quoted - billed) / billed, 1)


def _jobs(count: int) -> str:
    return "1 earlier job" if count == 1 else f"{count} earlier jobs"
