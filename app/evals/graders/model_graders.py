"""Models as graders (Zheng et al. 2023, "Judging LLM-as-a-judge", arXiv 2306.05685): the question, and its answer read.

What a model writes is not constrained here, so the last message ends with the form that is wanted, and an answer
without it is an error of the grader, never a score.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.evals.graders.specs import LabelModelGrader, ScoreModelGrader, TemplateMessage
from app.evals.graders.templates import render

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_OBJECT = re.compile(r"\{[^{}]*\}")
_SHOWN_CHARACTERS = 200


class UnreadableAnswer(Exception):  # noqa: N818 - the grading model's fault
    """The grading model did not answer in the form it was asked for."""


def questions(messages: Sequence[TemplateMessage], values: Mapping[str, Any], *, ending: str) -> list[dict[str, Any]]:
    """The messages with their variables filled in; `ending` goes below the last one. `TemplateFault` as `render`."""
    rendered = [{"role": message.role, "content": render(message.template, values)} for message in messages]
    if ending:
        rendered[-1]["content"] += f"\n\n{ending}"
    return rendered


def score_form(grader: ScoreModelGrader) -> str:
    low, high = grader.bounds
    return f'Answer with JSON only: {{"result": NUMBER}}, where NUMBER lies between {low:g} and {high:g}.'


def label_form(grader: LabelModelGrader) -> str:
    labels = ", ".join(json.dumps(label, ensure_ascii=False) for label in grader.labels)
    return f'Answer with JSON only: {{"result": LABEL}}, where LABEL is one of {labels}.'


def read_score(text: str, grader: ScoreModelGrader) -> float:
    """The number in `result` (or `score`), or the answer's only number. `UnreadableAnswer` outside of the range."""
    found = _result(text, ("result", "score"))
    if found is None:
        numbers = _NUMBER.findall(text)
        found = numbers[0] if len(numbers) == 1 else None
    try:
        score = float(found) if not isinstance(found, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    low, high = grader.bounds
    if not low <= score <= high:
        raise UnreadableAnswer(f"'{grader.model}' gave no score between {low:g} and {high:g}: {_shown(text)}")
    return score


def read_label(text: str, grader: LabelModelGrader) -> str:
    """The label in `result` (or `label`), the whole answer, or the only label that stands in it."""
    found = _result(text, ("result", "label"))
    candidates = [found] if isinstance(found, str) else []
    candidates.append(text.strip().strip("\"'`. "))
    for candidate in candidates:
        for same in (str, str.casefold):
            hits = [label for label in grader.labels if same(label) == same(candidate)]
            if hits:
                return hits[0]
    named = [
        label
        for label in grader.labels
        if re.search(rf"(?<!\w){re.escape(label.casefold())}(?!\w)", text.casefold()) is not None
    ]
    if len(named) == 1:
        return named[0]
    raise UnreadableAnswer(f"'{grader.model}' named none of the labels, or several: {_shown(text)}")


def _result(text: str, names: Sequence[str]) -> Any:
    """The value of the first name in the last JSON object of the text that has it."""
    for candidate in [text.strip(), *reversed(_OBJECT.findall(text))]:
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            for name in names:
                if name in value:
                    return value[name]
    return None


def _shown(text: str) -> str:
    cut = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return f"it wrote {json.dumps(cut, ensure_ascii=False)}"
