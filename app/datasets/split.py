"""Which rows are held out and which choose the best checkpoint: a pure function of the rows' contents.

The rows whose prompts have the smallest hashes are taken, so the choice depends on nothing but the data (not on
their order, not on a seed), and rows whose prompts are equal but for case, spaces and punctuation stay on one side.
Rows with labels are taken label by label, so that each side has its share of every label, and no label loses its
last row.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.datasets.facts import RowFacts

HELDOUT_FRACTION = 0.1
SELECTION_FRACTION = 0.1
MIN_ROWS_FOR_SELECTION = 100
MAX_SELECTION_ROWS = 500


@dataclass
class _Group:
    """Rows that stay together, and how many of them have each label."""

    lines: list[int]
    labels: Counter[str]


def heldout_count(rows: int) -> int:
    """How many rows to hold out: a tenth, at least one."""
    return max(1, round(HELDOUT_FRACTION * rows))


def choose_heldout(rows: Sequence[RowFacts]) -> tuple[frozenset[int], bool]:
    """Lines to hold out, and whether prompts decided.

    Groups of equal prompts are taken by ascending hash until there are enough rows; a group that would
    more than double the wanted number is passed over (one prompt repeated everywhere must not empty the
    training side). If every group is so large, single rows are chosen by their whole contents instead: False.
    None are chosen where each would take a label's last row.
    """
    wanted = heldout_count(len(rows))
    chosen = _choose(rows, _by_prompt, wanted, most=2 * wanted)
    if chosen:
        return chosen, True
    chosen = _choose(rows, lambda row: (row.row_hash, row.line), wanted, most=2 * wanted)
    return chosen, not chosen


def choose_selection(rows: Sequence[RowFacts]) -> frozenset[int]:
    """Lines of training rows that choose the best checkpoint and end a run early, never trained on.

    A tenth, at most `MAX_SELECTION_ROWS`; none of fewer than `MIN_ROWS_FOR_SELECTION`, and none where a few
    prompts are repeated everywhere.
    """
    if len(rows) < MIN_ROWS_FOR_SELECTION:
        return frozenset()
    wanted = min(MAX_SELECTION_ROWS, round(SELECTION_FRACTION * len(rows)))
    return _choose(rows, _by_prompt, wanted, most=min(MAX_SELECTION_ROWS, 2 * wanted))


def leaked(train: Sequence[RowFacts], heldout: Sequence[RowFacts]) -> int:
    """Held-out rows whose prompt is in the training rows too, to the letter."""
    seen = {row.prompt_hash for row in train}
    return sum(row.prompt_hash in seen for row in heldout)


def leaked_lines(train: Sequence[RowFacts], heldout: Sequence[RowFacts]) -> tuple[int, ...]:
    """Lines of such rows, where case, spaces and punctuation make no difference."""
    seen = {row.group_hash for row in train}
    return tuple(row.line for row in heldout if row.group_hash in seen)


def _by_prompt(row: RowFacts) -> bytes:
    return row.group_hash


def _choose(rows: Sequence[RowFacts], key: Callable[[RowFacts], Any], wanted: int, *, most: int) -> frozenset[int]:
    """About `wanted` lines, by ascending key within each stratum; a stratum gives at most twice its share."""
    most = min(most, len(rows) - 1)
    left = Counter(label for row in rows for label in row.labels)
    strata = _strata(rows, key, left)
    quotas = _quotas({name: sum(len(group.lines) for _, group in groups) for name, groups in strata.items()}, wanted)
    chosen: set[int] = set()
    for name in sorted(strata):
        taken = 0
        for _, group in sorted(strata[name], key=lambda item: item[0]):
            size = len(group.lines)
            if taken >= quotas[name]:
                break
            if taken + size > 2 * quotas[name] or len(chosen) + size > most:
                continue
            if all(left[label] > count for label, count in group.labels.items()):
                chosen.update(group.lines)
                left.subtract(group.labels)
                taken += size
    return frozenset(chosen)


def _strata(
    rows: Sequence[RowFacts], key: Callable[[RowFacts], Any], counts: Mapping[str, int]
) -> dict[str, list[tuple[Any, _Group]]]:
    """Groups of rows by the rarest label among their rows ("" for none), each with its key."""
    groups: dict[Any, _Group] = {}
    for row in rows:
        group = groups.setdefault(key(row), _Group([], Counter()))
        group.lines.append(row.line)
        group.labels.update(row.labels)
    strata: dict[str, list[tuple[Any, _Group]]] = {}
    for digest, group in groups.items():
        rarest = min(group.labels, key=lambda label: (counts[label], label), default="")
        strata.setdefault(rarest, []).append((digest, group))
    return strata


def _quotas(sizes: Mapping[str, int], wanted: int) -> dict[str, int]:
    """`wanted` shared out in proportion, by largest remainder; strata of one row have nothing to give."""
    shares = {name: size for name, size in sizes.items() if size > 1}
    total = sum(shares.values())
    quotas = {name: wanted * shares.get(name, 0) // max(1, total) for name in sizes}
    by_remainder = sorted(shares, key=lambda name: (-(wanted * shares[name] % total), name))
    for name in by_remainder[: wanted - sum(quotas.values())]:
        quotas[name] += 1
    return quotas
