"""Answers against what users expected of them, case by case. Pure functions, no tensors."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from app.contracts.requirements import Expectation, ExpectationResult
from workers.engine.evaluation.json_schemas import compile_schema, fault
from workers.engine.evaluation.metrics.signature import fingerprint, signature
from workers.engine.evaluation.patterns import SECONDS, compile_pattern, is_found
from workers.engine.evaluation.statistics.metric import Metric, proportion


def judge_answer(expectation: Expectation, answer: str) -> ExpectationResult:
    """Whether the answer is as expected; white space around texts aside. ValueError for a wrong pattern or schema."""
    why_not = _JUDGES[expectation.kind](expectation, answer)
    return ExpectationResult(passed=not why_not, sentence=why_not)


def expectations_met(expectations: Sequence[Expectation], hits: Sequence[bool]) -> Metric:
    """`expectations_met`: the share of expectations that are met."""
    cases = fingerprint(expectation.model_dump_json() for expectation in expectations)
    return proportion("expectations_met", hits, signature=signature(cases=cases))


def _equals(expectation: Expectation, answer: str) -> str:
    wanted, found = _texts(expectation, answer)
    return "" if wanted == found else f"The answer is not '{expectation.value}'."


def _contains(expectation: Expectation, answer: str) -> str:
    wanted, found = _texts(expectation, answer)
    return "" if wanted in found else f"The answer does not contain '{expectation.value}'."


def _not_contains(expectation: Expectation, answer: str) -> str:
    wanted, found = _texts(expectation, answer)
    return f"The answer contains '{expectation.value}'." if wanted in found else ""


def _regex(expectation: Expectation, answer: str) -> str:
    pattern = compile_pattern(f"(?i){expectation.value}" if expectation.ignores_case else str(expectation.value))
    try:
        return "" if is_found(pattern, answer) else f"The pattern '{expectation.value}' matches nowhere in the answer."
    except TimeoutError:
        return f"The pattern '{expectation.value}' took longer than {SECONDS:g} s; write it without nested repeats."


def _json_schema(expectation: Expectation, answer: str) -> str:
    return fault(compile_schema(cast("dict[str, Any]", expectation.value)), answer) or ""


def _min_length(expectation: Expectation, answer: str) -> str:
    length = len(answer.strip())
    is_enough = length >= cast("int", expectation.value)
    return "" if is_enough else f"The answer has {length} characters, fewer than {expectation.value}."


def _max_length(expectation: Expectation, answer: str) -> str:
    length = len(answer.strip())
    is_short = length <= cast("int", expectation.value)
    return "" if is_short else f"The answer has {length} characters, more than {expectation.value}."


def _texts(expectation: Expectation, answer: str) -> tuple[str, str]:
    wanted, found = str(expectation.value).strip(), answer.strip()
    return (wanted.casefold(), found.casefold()) if expectation.ignores_case else (wanted, found)


_JUDGES: dict[str, Callable[[Expectation, str], str]] = {
    "equals": _equals,
    "contains": _contains,
    "not_contains": _not_contains,
    "regex": _regex,
    "json_schema": _json_schema,
    "min_length": _min_length,
    "max_length": _max_length,
}
