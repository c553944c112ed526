"""What a team requires of a model: a sheet of limits on figures, and expectations of single answers.

A sheet is text, a requirement a line: `macro_f1 >= 0.85`, `p95_ms <= 300 ms`, `injection_rise <= 5 points`. Empty lines
and what follows a # are left out.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from app.contracts.base import Contract
from app.contracts.figures import Figure

Outcome = Literal["pass", "fail", "not_shown", "not_measured"]

_OPERATORS: dict[str, Literal[">=", "<="]] = {">=": ">=", "\u2265": ">=", "<=": "<=", "\u2264": "<="}
_PARTS_OF_ONE = {"points": 0.01, "point": 0.01, "%": 0.01}
_MILLISECONDS = {"ms": 1.0, "s": 1000.0}
_LINE = re.compile(
    r"(?P<figure>\S+?)\s*(?P<operator>>=|<=|\u2265|\u2264)\s*"
    r"(?P<limit>[^\s%a-zA-Z]+(?:[eE][-+]?\d+)?|\S+)\s*(?P<unit>\S*)"
)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MOST_ROWS = 100_000
"""More held-out rows than this are not asked for."""


class Requirement(Contract):
    """A figure must reach a limit."""

    figure: str = Field(description="e.g. macro_f1, p95_ms, cost_per_1000_decisions", pattern=r"^[a-z][a-z0-9_]*$")
    operator: Literal[">=", "<="]
    limit: float = Field(allow_inf_nan=False)

    @property
    def text(self) -> str:
        return f"{self.figure} {self.operator} {self.limit:g}"


class RequirementJudgement(Contract):
    """What a run says to one requirement."""

    requirement: Requirement
    outcome: Outcome = Field(description="pass: the whole 95 % interval meets the limit; fail: none of it does")
    figure: Figure | None = None
    rows_wanted: int | None = Field(
        default=None, description="held-out rows that would show it, if the figure stayed what it is"
    )
    sentence: str = Field(description="the outcome, and the cheapest change that would help")


class Expectation(Contract):
    """What the answer to one input must be like."""

    input: str = Field(min_length=1, max_length=20_000, description="sent as the user's message")
    kind: Literal["equals", "contains", "not_contains", "regex", "json_schema", "min_length", "max_length"]
    value: str | Annotated[int, Field(strict=True)] | dict[str, Any] = Field(
        description="a text, a pattern, a schema, or a number of characters"
    )
    ignores_case: bool = Field(default=False, description="of equals, contains, not_contains and regex")

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        wanted: type = {"json_schema": dict, "min_length": int, "max_length": int}.get(self.kind, str)
        if type(self.value) is not wanted:
            names = {dict: "a JSON schema (an object)", int: "a whole number of characters", str: "a text"}
            raise ValueError(f"an expectation of kind {self.kind} needs {names[wanted]} as its value")
        if isinstance(self.value, int) and self.value < 0:
            raise ValueError("a length cannot be negative")
        if self.value == "" and self.kind != "equals":
            raise ValueError(f"an expectation of kind {self.kind} needs a text that is not empty")
        return self


class ExpectationResult(Contract):
    """Whether an answer is as it was expected."""

    passed: bool
    sentence: str = Field(description="why not; empty where it passed")


def parse_sheet(text: str) -> tuple[Requirement, ...]:
    """The requirements of a sheet. Raises ValueError that names the line and how to mend it."""
    found: dict[tuple[str, str], Requirement] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        plain = line.split("#", maxsplit=1)[0].strip()
        if not plain:
            continue
        try:
            requirement = _parse_line(plain)
            _check_against(found, requirement)
        except ValueError as error:
            raise ValueError(f"line {number}, '{plain}': {error}") from error
        found[requirement.figure, requirement.operator] = requirement
    if not found:
        raise ValueError("the sheet holds no requirement; write one a line, e.g. macro_f1 >= 0.85")
    return tuple(found.values())


def judge_sheet(sheet: Iterable[Requirement], figures: Sequence[Figure]) -> tuple[RequirementJudgement, ...]:
    """Each requirement against the figures of one run. Raises ValueError where two figures have one name."""
    by_name = {figure.name: figure for figure in figures}
    if len(by_name) != len(figures):
        raise ValueError("two figures of one run have the same name")
    return tuple(_judge(requirement, by_name.get(requirement.figure)) for requirement in sheet)


def is_met(judgements: Sequence[RequirementJudgement]) -> bool:
    """The gate opens where every requirement passes; a sheet without requirements opens nothing."""
    return bool(judgements) and all(judgement.outcome == "pass" for judgement in judgements)


def _parse_line(line: str) -> Requirement:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("write FIGURE >= LIMIT or FIGURE <= LIMIT, e.g. macro_f1 >= 0.85 or p95_ms <= 300")
    figure = match["figure"]
    if not _NAME.fullmatch(figure):
        raise ValueError(f"'{figure}' is no name of a figure: small letters, digits and _, e.g. macro_f1")
    try:
        limit = float(match["limit"])
    except ValueError:
        raise ValueError(f"'{match['limit']}' is no number; write it like 0.85 or 300") from None
    if not math.isfinite(limit):
        raise ValueError("a limit must be a finite number")
    limit = float(f"{limit * _unit(figure, match['unit']):.12g}")  # 5 points are 0.05, not 0.05000000000000001
    return Requirement(figure=figure, operator=_OPERATORS[match["operator"]], limit=limit)


def _unit(figure: str, unit: str) -> float:
    if not unit:
        return 1.0
    if unit in _MILLISECONDS:
        if not figure.endswith("_ms"):
            raise ValueError(f"'{unit}' is a unit of times, and {figure} is none: only figures in _ms are")
        return _MILLISECONDS[unit]
    if unit in _PARTS_OF_ONE:
        if figure.endswith("_ms"):
            raise ValueError(f"{figure} is a time: its units are ms and s, not '{unit}'")
        return _PARTS_OF_ONE[unit]
    raise ValueError(f"'{unit}' is no unit known here; use points, %, ms, s, or none")


def _check_against(found: dict[tuple[str, str], Requirement], new: Requirement) -> None:
    if (new.figure, new.operator) in found:
        raise ValueError(f"{new.figure} {new.operator} stands here twice; keep one of them")
    other = found.get((new.figure, "<=" if new.operator == ">=" else ">="))
    if other is None:
        return
    low, high = (new.limit, other.limit) if new.operator == ">=" else (other.limit, new.limit)
    if low > high:
        raise ValueError(f"no value meets this and '{other.text}'")


def _judge(requirement: Requirement, figure: Figure | None) -> RequirementJudgement:
    if figure is None:
        return RequirementJudgement(
            requirement=requirement, outcome="not_measured", sentence=_not_measured(requirement)
        )
    # Seen from below: the figure must not be under the limit.
    sign = 1 if requirement.operator == ">=" else -1
    worst, best = sorted((sign * figure.low, sign * figure.high))
    value, limit = sign * figure.value, sign * requirement.limit
    start = f"{figure.name} is {figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g}, {figure.n} rows)"
    if worst >= limit:
        sentence = f"{start} and meets {requirement.operator} {requirement.limit:g}."
        return RequirementJudgement(requirement=requirement, outcome="pass", figure=figure, sentence=sentence)
    if best < limit:
        sentence = f"{start} and misses {requirement.operator} {requirement.limit:g}. {_remedy(figure.name)}"
        return RequirementJudgement(requirement=requirement, outcome="fail", figure=figure, sentence=sentence)
    start = f"{start}: {requirement.operator} {requirement.limit:g} is not shown."
    if value <= limit:
        gap = f"The estimate itself is {limit - value:.3g} short, so more held-out rows alone will hardly show it."
        sentence = f"{start} {gap} {_remedy(figure.name)}"
        return RequirementJudgement(requirement=requirement, outcome="not_shown", figure=figure, sentence=sentence)
    # How many times narrower the interval must be; compared before it is squared, which may be too large a number.
    narrower = (value - worst) / (value - limit)
    if narrower > math.sqrt(_MOST_ROWS / figure.n):
        sentence = f"{start} It lies too near the limit for held-out rows to tell. {_remedy(figure.name)}"
        return RequirementJudgement(requirement=requirement, outcome="not_shown", figure=figure, sentence=sentence)
    rows = math.ceil(figure.n * narrower**2)
    wanted = f"About {rows} held-out rows ({rows - figure.n} more) would show it if the figure stays what it is."
    return RequirementJudgement(
        requirement=requirement, outcome="not_shown", figure=figure, rows_wanted=rows, sentence=f"{start} {wanted}"
    )


def _not_measured(requirement: Requirement) -> str:
    return (
        f"{requirement.figure} was not measured in this run. Check the name, or run an evaluation that measures it; "
        "until then the requirement is not met."
    )


def _remedy(figure: str) -> str:
    """The cheapest change that may help, by what kind of figure it is."""
    if figure.endswith("_ms") or figure.startswith(("tokens_per_second", "goodput")):
        return "Cheapest first: a lower limit of answer tokens, fewer requests at once, then a smaller base."
    if figure.startswith("cost"):
        return (
            "Cheapest first: a price for handing unsure cases on (costs.abstain), then more rows of the dearest labels."
        )
    if figure.startswith(("ece", "brier", "loss", "bits_per_byte")):
        return "Cheapest first: a temperature fitted on validation rows, then fewer epochs."
    if figure.endswith("_rise"):
        return "Cheapest first: fewer epochs or a lower learning rate, then training rows that show the wanted conduct."
    return "Cheapest first: mend wrong labels in the training rows, then more rows of the weakest labels."
