"""A figure of many rows, in the one form that intervals and comparisons need.

Every metric here is a function of sums over rows: accuracy of hits and rows, F1 of true and false positives, ROUGE of
the rows' own scores, loss of nats and tokens. A resample of the rows is then a matrix product with the rows' parts,
and two thousand resamples cost less than a second.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One figure of n rows."""

    name: str
    signature: str
    """What the value depends on beside the rows: scheme, case, averaging, version. Equal or not comparable."""
    parts: Floats
    """[n, k]: what each row adds to the sums."""
    of_sums: Callable[[Floats], Floats]
    """From sums [..., k] to values [...]."""
    higher_is_better: bool = True
    is_proportion: bool = False
    """Each row is a hit or a miss: parts are [hit], and the value is hits / n."""
    unit: float = 1.0
    """What counts as one whole of this figure, for judging how large an effect is."""

    @property
    def n(self) -> int:
        return len(self.parts)

    @property
    def value(self) -> float:
        return float(self.of_sums(self.parts.sum(0)))

    def resampled(self, weights: Floats) -> Floats:
        """Values [B] of weighted rows; weights are [B, n]."""
        return self.of_sums(weights @ self.parts)

    def without_each(self) -> Floats:
        """Values [n], each of all rows but one (jackknife)."""
        return self.of_sums(self.parts.sum(0) - self.parts)


def proportion(name: str, hits: npt.ArrayLike, *, signature: str, higher_is_better: bool = True) -> Metric:
    """The share of rows that are hits. Raises ValueError for no rows."""
    parts = _column(hits)
    n = len(parts)
    # The weights of a resample add up to n.
    return Metric(
        name,
        signature,
        parts,
        lambda sums: sums[..., 0] / n,
        higher_is_better=higher_is_better,
        is_proportion=True,
    )


def mean(name: str, values: npt.ArrayLike, *, signature: str, higher_is_better: bool = True) -> Metric:
    """The mean of the rows' own scores. Raises ValueError for no rows."""
    return ratio(name, values, np.ones(np.shape(values)), signature=signature, higher_is_better=higher_is_better)


def ratio(
    name: str, above: npt.ArrayLike, below: npt.ArrayLike, *, signature: str, higher_is_better: bool = True
) -> Metric:
    """sum(above) / sum(below) over rows: loss a token, tokens right; 0 where nothing is below."""
    parts = np.concatenate([_column(above), _column(below)], axis=1)
    return Metric(
        name,
        signature,
        parts,
        lambda sums: divide(sums[..., 0], sums[..., 1]),
        higher_is_better=higher_is_better,
    )


def divide(above: Floats, below: Floats) -> Floats:
    """Element by element; 0 where `below` is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below != 0)


def _column(values: npt.ArrayLike) -> Floats:
    column = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    if not len(column):
        raise ValueError("a figure of no rows")
    return column
