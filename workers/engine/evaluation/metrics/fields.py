"""Figures of JSON answers, field by field: a field is a path such as `customer.name` or `items[].price`.

A value is right where the same path holds an equal one; the order within a list does not matter, each value counts
once. `true` is not 1, 1 is 1.0, and texts are compared to the letter. An answer that is no JSON has no fields.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from app.contracts.figures import ClassFigures
from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.statistics.metric import Metric, divide, proportion

_Fields = Counter[tuple[str, str]]
"""How often each (path, value as JSON) occurs."""


def read_json(text: str) -> tuple[bool, Any]:
    """(whether the text is JSON as of RFC 8259, its value); NaN and infinities are not."""
    try:
        return True, json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False, None


def is_record(text: str) -> bool:
    """Whether a text is a JSON object."""
    return isinstance(read_json(text)[1], dict)


def field_metrics(expected: Sequence[str], answers: Sequence[str]) -> list[Metric]:
    """field_precision, field_recall, field_f1 (micro over all fields) and record_accuracy (all fields of a row right).

    Raises ValueError for no rows, lists of unequal length, or an expected text that is no JSON.
    """
    pairs = _pairs(expected, answers)
    parts = np.array(
        [((wanted & found).total(), wanted.total(), found.total()) for wanted, found in pairs], dtype=np.float64
    )
    shown = signature(average="micro", lists="unordered", case="mixed", zero=0)
    return [
        Metric("field_precision", shown, parts, lambda sums: divide(sums[..., 0], sums[..., 2])),
        Metric("field_recall", shown, parts, lambda sums: divide(sums[..., 0], sums[..., 1])),
        Metric("field_f1", shown, parts, lambda sums: divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])),
        proportion(
            "record_accuracy",
            [wanted == found for wanted, found in pairs],
            signature=signature(lists="unordered", case="mixed"),
        ),
    ]


def field_figures(expected: Sequence[str], answers: Sequence[str]) -> list[ClassFigures]:
    """Each field that is expected somewhere, by path; support is how often. Raises as `field_metrics`."""
    wanted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for wants, finds in _pairs(expected, answers):
        for total, fields in ((wanted, wants), (found, finds), (right, wants & finds)):
            for (path, _), count in fields.items():
                total[path] += count
    return [
        ClassFigures(
            label=path,
            precision=right[path] / found[path] if found[path] else 0.0,
            recall=right[path] / wanted[path],
            f1=2 * right[path] / (wanted[path] + found[path]),
            support=wanted[path],
        )
        for path in sorted(wanted)
    ]


def _pairs(expected: Sequence[str], answers: Sequence[str]) -> list[tuple[_Fields, _Fields]]:
    if not expected:
        raise ValueError("figures of no rows")
    pairs = []
    for place, (text, answer) in enumerate(zip(expected, answers, strict=True)):
        is_json, value = read_json(text)
        if not is_json:
            raise ValueError(f"the expected answer of row {place + 1} is not JSON")
        is_answered, found = read_json(answer)
        pairs.append((Counter(_leaves(value, "")), Counter(_leaves(found, "") if is_answered else ())))
    return pairs


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, value) of all that holds no further values; an empty object or list is such a value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    else:
        yield path, _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
