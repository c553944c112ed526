"""Templates of graders and prompts: `{{item.x}}`, `{{sample.output_text}}`, `{{sample.output_json.a.b}}`."""

import json
import re
from collections.abc import Mapping
from typing import Any

NAMESPACES = ("item", "sample")
_VARIABLE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"\w[\w\-]*(?:\.[\w\-]+|\[\d+\])*")
_STEP = re.compile(r"[\w\-]+")


class TemplateFault(Exception):  # noqa: N818 - a fault of the template, or of the row it is filled with
    """A variable that cannot be one, or that this row does not have."""


def check_template(template: str) -> None:
    """`TemplateFault` for a variable outside of the two namespaces."""
    for expression in _VARIABLE.findall(template):
        _steps(expression)


def render(template: str, values: Mapping[str, Any]) -> str:
    """The template with its variables filled in: texts as they are, everything else as JSON."""
    return _VARIABLE.sub(lambda found: as_text(look_up(found[1], values)), template)


def look_up(expression: str, values: Mapping[str, Any]) -> Any:
    """The value at a path such as `item.answers[0].text`; `TemplateFault` names the step that is missing."""
    current: Any = values
    walked = ""
    for step in _steps(expression):
        if isinstance(current, Mapping) and step in current:
            current = current[step]
        elif isinstance(current, list) and step.isdecimal() and int(step) < len(current):
            current = current[int(step)]
        else:
            raise TemplateFault(f"'{{{{{expression.strip()}}}}}': there is no '{step}' in {walked or 'the variables'}")
        walked = f"{walked}.{step}" if walked else step
    return current


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _steps(expression: str) -> list[str]:
    path = expression.strip()
    if _PATH.fullmatch(path) is None:
        raise TemplateFault(
            f"'{{{{{path}}}}}' is no variable: write a path such as {{{{item.question}}}} or {{{{sample.output_text}}}}"
        )
    steps = _STEP.findall(path)
    if steps[0] not in NAMESPACES:
        raise TemplateFault(f"'{{{{{path}}}}}' begins with '{steps[0]}': variables begin with 'item' or 'sample'")
    return steps
