"""One grader applied to one sample."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, assert_never

from app.errors import AppError, Unavailable
from app.evals.graders.asking import Asker, Reply, Sampling
from app.evals.graders.formula import Formula, FormulaFault
from app.evals.graders.model_graders import (
    UnreadableAnswer,
    label_form,
    questions,
    read_label,
    read_score,
    score_form,
)
from app.evals.graders.similarity import MAX_CHARACTERS, SIMILARITIES
from app.evals.graders.specs import (
    GraderSampling,
    LabelModelGrader,
    MultiGrader,
    PythonGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)
from app.evals.graders.templates import TemplateFault, render

FaultKind = Literal[
    "formula_parse_error",
    "sample_parse_error",
    "invalid_variable_error",
    "model_grader_parse_error",
    "model_grader_server_error",
    "other_error",
]
AnyGrader = StringCheckGrader | TextSimilarityGrader | ScoreModelGrader | LabelModelGrader | PythonGrader | MultiGrader
ModelGrader = TypeVar("ModelGrader", ScoreModelGrader, LabelModelGrader)
Found = TypeVar("Found", float, str)
_GRADER_TOKENS = 512


class GradeFault(Exception):  # noqa: N818 - of the row, the grader or its model; never a score
    """No score for this sample; `kind` is one of the wire's error flags, `replies` cost tokens all the same."""

    def __init__(self, kind: FaultKind, message: str, replies: tuple[Reply, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.replies = replies


@dataclass(frozen=True)
class Grade:
    """What a grader says of a sample."""

    score: float
    passed: bool
    """By the criterion's threshold; of graders without one, whether the score is above 0."""
    label: str | None = None
    sub_scores: dict[str, float] = field(default_factory=dict)
    replies: tuple[Reply, ...] = ()
    """Of the grading models, for the tokens they cost."""


async def grade(grader: AnyGrader, values: Mapping[str, Any], asker: Asker) -> Grade:
    """Score a sample; `values` has `item` and `sample`. `GradeFault` if it cannot be, `Unavailable` if not now."""
    try:
        return await _grade(grader, values, asker)
    except TemplateFault as fault:
        kind: FaultKind = "sample_parse_error" if "sample.output_json" in str(fault) else "invalid_variable_error"
        raise GradeFault(kind, str(fault)) from None
    except FormulaFault as fault:
        raise GradeFault("formula_parse_error", str(fault)) from None
    except Unavailable:
        raise
    except AppError as error:
        raise GradeFault("model_grader_server_error", error.message) from error


async def _grade(grader: AnyGrader, values: Mapping[str, Any], asker: Asker) -> Grade:
    match grader:
        case StringCheckGrader():
            is_match = _check_string(grader, render(grader.input, values), render(grader.reference, values))
            return Grade(float(is_match), is_match)
        case TextSimilarityGrader():
            score = await _similarity(grader, render(grader.input, values), render(grader.reference, values))
            return Grade(score, score >= getattr(grader, "pass_threshold", 0.0))
        case ScoreModelGrader():
            return await _ask_score(grader, values, asker)
        case LabelModelGrader():
            return await _ask_label(grader, values, asker)
        case MultiGrader():
            return await _combine(grader, values, asker)
        case PythonGrader():
            # Refused when it is sent; a row of an older version may still hold one.
            raise GradeFault("other_error", "python graders are not run: this server has no sandbox for code")
        case _:
            assert_never(grader)


def _check_string(grader: StringCheckGrader, text: str, reference: str) -> bool:
    match grader.operation:
        case "eq":
            return text == reference
        case "ne":
            return text != reference
        case "like":
            return reference in text
        case "ilike":
            return reference.casefold() in text.casefold()


async def _similarity(grader: TextSimilarityGrader, text: str, reference: str) -> float:
    if max(len(text), len(reference)) > MAX_CHARACTERS:
        raise GradeFault("other_error", f"a text to compare has more than {MAX_CHARACTERS} characters")
    measure = SIMILARITIES.get(grader.evaluation_metric)
    if measure is None:
        raise GradeFault("other_error", f"'{grader.evaluation_metric}' needs a model of embeddings")
    # Long texts take seconds: in a thread, so that what else goes on is not held up.
    return await asyncio.to_thread(measure, reference, text)


async def _ask_score(grader: ScoreModelGrader, values: Mapping[str, Any], asker: Asker) -> Grade:
    score, reply = await _asked(grader, values, asker, score_form(grader), read_score)
    threshold = getattr(grader, "pass_threshold", None)
    if threshold is None:
        threshold = sum(grader.bounds) / 2
    return Grade(score, score >= threshold, replies=(reply,))


async def _ask_label(grader: LabelModelGrader, values: Mapping[str, Any], asker: Asker) -> Grade:
    label, reply = await _asked(grader, values, asker, label_form(grader), read_label)
    passed = label in grader.passing_labels
    return Grade(float(passed), passed, label=label, replies=(reply,))


async def _asked(
    grader: ModelGrader, values: Mapping[str, Any], asker: Asker, form: str, read: Callable[[str, ModelGrader], Found]
) -> tuple[Found, Reply]:
    """What a grading model found. A model that only says something of a text is not told of a form."""
    messages = questions(grader.input, values, ending=form if asker.converses(grader.model) else "")
    reply = await asker.ask(grader.model, messages, _sampling(grader.sampling_params))
    try:
        return read(reply.text, grader), reply
    except UnreadableAnswer as unreadable:
        raise GradeFault("model_grader_parse_error", str(unreadable), (reply,)) from None


async def _combine(grader: MultiGrader, values: Mapping[str, Any], asker: Asker) -> Grade:
    names = list(grader.by_name)
    grades = await asyncio.gather(*(_grade(grader.by_name[name], values, asker) for name in names))
    scores = {name: found.score for name, found in zip(names, grades, strict=True)}
    score = Formula(grader.calculate_output).value(scores)
    replies = tuple(reply for found in grades for reply in found.replies)
    return Grade(score, score > 0, sub_scores=scores, replies=replies)


def _sampling(given: GraderSampling | None) -> Sampling:
    """The likeliest answer unless the grader says otherwise: the same sample then gets the same grade."""
    given = given or GraderSampling()
    limit = given.max_completion_tokens or given.max_completions_tokens
    return Sampling(
        max_completion_tokens=_GRADER_TOKENS if limit is None else limit,
        temperature=0.0 if given.temperature is None else given.temperature,
        top_p=given.top_p,
        seed=given.seed,
    )
