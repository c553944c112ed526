"""Graders this installation cannot run are refused when they are sent, not when they are needed."""

from app.errors import InvalidInput
from app.evals.graders.grading import AnyGrader
from app.evals.graders.similarity import SIMILARITIES
from app.evals.graders.specs import LabelModelGrader, MultiGrader, PythonGrader, ScoreModelGrader, TextSimilarityGrader


def refuse_unserved(grader: AnyGrader, param: str) -> None:
    """`InvalidInput` with what to use instead."""
    match grader:
        case PythonGrader():
            raise InvalidInput(
                f"'{grader.name}' is a python grader: it runs code, and this server has no sandbox configured to run "
                "it in. Use string_check, text_similarity, score_model, label_model or multi.",
                param=f"{param}.type",
                code="grader_needs_sandbox",
            )
        case TextSimilarityGrader() if grader.evaluation_metric not in SIMILARITIES:
            raise InvalidInput(
                f"'{grader.name}' asks for '{grader.evaluation_metric}', which needs a model of embeddings, and this "
                f"server has none configured. Use one of {', '.join(SIMILARITIES)}.",
                param=f"{param}.evaluation_metric",
                code="grader_needs_embeddings",
            )
        case MultiGrader():
            for name, part in grader.by_name.items():
                refuse_unserved(part, f"{param}.graders.{name}")
        case _:
            return


def models_of(grader: AnyGrader) -> set[str]:
    """The models a grader asks."""
    match grader:
        case ScoreModelGrader() | LabelModelGrader():
            return {grader.model}
        case MultiGrader():
            return {model for part in grader.by_name.values() for model in models_of(part)}
        case _:
            return set()
