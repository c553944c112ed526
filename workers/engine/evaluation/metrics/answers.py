"""Figures of chat answers: each row is right or wrong, so all of them are shares of rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from workers.engine.evaluation.json_schemas import compile_schema, fault
from workers.engine.evaluation.metrics.fields import read_json
from workers.engine.evaluation.metrics.label_match import match_label, normalise_label
from workers.engine.evaluation.metrics.signature import fingerprint, signature
from workers.engine.evaluation.patterns import SECONDS, compile_pattern, is_found
from workers.engine.evaluation.repetition import is_loop
from workers.engine.evaluation.statistics.metric import Metric, proportion


def exact_match(expected: Sequence[str], answers: Sequence[str], *, ignores_case: bool = False) -> Metric:
    """The answer is the expected text, white space around both aside."""
    pairs = [(_plain(e, ignores_case), _plain(a, ignores_case)) for e, a in zip(expected, answers, strict=True)]
    return proportion("exact_match", [e == a for e, a in pairs], signature=signature(**_case(ignores_case)))


def contains(expected: Sequence[str], answers: Sequence[str], *, ignores_case: bool = False) -> Metric:
    """The expected text, white space around it aside, stands somewhere in the answer."""
    pairs = [(_plain(e, ignores_case), _plain(a, ignores_case)) for e, a in zip(expected, answers, strict=True)]
    return proportion("contains", [e in a for e, a in pairs], signature=signature(**_case(ignores_case)))


def regex_match(pattern: str, answers: Sequence[str]) -> Metric:
    """The pattern matches somewhere in the answer; one that takes too long does not. ValueError for a wrong one."""
    compiled = compile_pattern(pattern)
    hits = []
    for answer in answers:
        try:
            hits.append(is_found(compiled, answer))
        except TimeoutError:
            hits.append(False)
    return proportion("regex_match", hits, signature=signature(pattern=fingerprint([pattern]), seconds=SECONDS))


def schema_valid(schema: Mapping[str, Any], answers: Sequence[str]) -> Metric:
    """The answer is JSON that meets the schema. Raises ValueError for a wrong schema."""
    validator = compile_schema(schema)
    return proportion(
        "schema_valid",
        [fault(validator, answer) is None for answer in answers],
        signature=signature(schema=fingerprint([str(sorted(schema.items(), key=str))])),
    )


def valid_json(answers: Sequence[str]) -> Metric:
    """The whole answer is JSON."""
    return proportion("valid_json", [read_json(answer)[0] for answer in answers], signature=signature(rfc=8259))


def label_match(expected: Sequence[str], answers: Sequence[str], labels: Sequence[str]) -> Metric:
    """The answer names the expected label, as `match_label` reads it."""
    hits = [
        match_label(answer, labels) == (match_label(text, labels) or normalise_label(text))
        for text, answer in zip(expected, answers, strict=True)
    ]
    return proportion("label_match", hits, signature=signature(case="lower", labels=fingerprint(labels)))


def conduct(answers: Sequence[str], is_stopped: Sequence[bool], *, max_new_tokens: int) -> list[Metric]:
    """stop_rate, loop_rate and empty_rate: whether answers end by themselves, repeat themselves, say something.

    Raises ValueError for no rows or lists of unequal length.
    """
    if len(answers) != len(is_stopped):
        raise ValueError(f"{len(answers)} answers and {len(is_stopped)} ends")
    shown = {"max_new_tokens": max_new_tokens}
    return [
        proportion("stop_rate", is_stopped, signature=signature(**shown)),
        proportion("loop_rate", [is_loop(a) for a in answers], signature=signature(**shown), higher_is_better=False),
        proportion(
            "empty_rate", [not a.strip() for a in answers], signature=signature(**shown), higher_is_better=False
        ),
    ]


def _plain(text: str, ignores_case: bool) -> str:  # noqa: FBT001 one word of a pair of calls
    return text.strip().casefold() if ignores_case else text.strip()


def _case(ignores_case: bool) -> dict[str, str]:  # noqa: FBT001 as above
    return {"case": "lower" if ignores_case else "mixed"}
