"""Expectations put to base and tuned model: the users' own examples, answered as the model answers when served."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from app.contracts.reports import Evaluation, ExpectationOutcome
from app.contracts.requirements import Expectation, ExpectationResult
from app.contracts.rows import ChatMessage, ChatRow, LabelledText, Row, TaggedText, TextPair
from workers.engine.evaluation.answers import answer_all
from workers.engine.evaluation.expectations import expectations_met, judge_answer
from workers.engine.evaluation.head_scores import shown
from workers.engine.evaluation.heads import HeadRun
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.judgement import figures
from workers.engine.evaluation.progress import EvaluationProgress
from workers.engine.evaluation.questions import make_questions
from workers.engine.evaluation.summaries import writer_of
from workers.engine.recipes.chat import ChatRecipe
from workers.engine.recipes.recipe import EncodedRows
from workers.engine.training.lora import AdapterWeights

_MOST_TOKENS = 256
# A row wants an answer; this one is never shown to a model.
_NO_ANSWER = "-"


def with_expectations(heldout: Heldout, adapter: AdapterWeights, found: Evaluation) -> Evaluation:
    """The evaluation with every case's answers, and the share that each model meets among its figures."""
    cases = heldout.spec.expectations
    if not cases:
        return found
    asked = _asked(heldout)
    answers = [_answers(asked, model, adapter) for model in (heldout.against, adapter)]
    outcomes = tuple(_outcome(case, *(one.get(line) for one in answers)) for line, case in enumerate(cases, start=1))
    met = {"base": [one.base_passed for one in outcomes], "tuned": [one.passed for one in outcomes]}
    scores = {
        name: scores.model_copy(
            update={
                "figures": (*scores.figures, *figures([expectations_met(cases, met[name])], seed=heldout.spec.seed))
            }
        )
        for name, scores in (("base", found.base), ("tuned", found.tuned))
    }
    return found.model_copy(update={**scores, "expectations": outcomes})


def _outcome(case: Expectation, base: str | None, tuned: str | None) -> ExpectationOutcome:
    judged = _judged(case, tuned)
    return ExpectationOutcome(
        expectation=case,
        base=base or "",
        tuned=tuned or "",
        base_passed=_judged(case, base).passed,
        passed=judged.passed,
        sentence=judged.sentence,
    )


def _judged(case: Expectation, answer: str | None) -> ExpectationResult:
    """A case without an answer, or with a schema that leads nowhere, is not met: its neighbours still count."""
    if answer is None:
        return ExpectationResult(passed=False, sentence="There is no answer: nothing of the input could be read.")
    try:
        return judge_answer(case, answer)
    except ValueError as error:
        return ExpectationResult(passed=False, sentence=f"The case itself cannot be checked: {error}.")


def _asked(heldout: Heldout) -> Heldout:
    """The cases as rows of the recipe, line n the n-th; of preferences as chats, which is how they are asked."""
    recipe = heldout.recipe if heldout.spec.recipe != "preference" else ChatRecipe(heldout.resident)
    is_completion = any(isinstance(row, ChatRow) and row.is_completion for row in heldout.rows)
    rows = tuple(
        _row(heldout, line, case.input, is_completion=is_completion)
        for line, case in enumerate(heldout.spec.expectations, start=1)
    )
    encoded: EncodedRows = recipe.encode(rows, max_length=heldout.spec.max_length, on_progress=lambda _done: None)
    quiet = EvaluationProgress(heldout.spec.run_id, lambda _report: None, heldout.progress.should_stop)
    return replace(heldout, recipe=recipe, rows=rows, encoded=encoded, progress=quiet)


def _row(heldout: Heldout, line: int, text: str, *, is_completion: bool) -> Row:
    match heldout.spec.recipe:
        case "text_classification":
            return LabelledText(line=line, text=text, labels=(heldout.spec.labels or ())[:1])
        case "token_classification":
            return TaggedText(line=line, text=text, spans=())
        case "summarization":
            return TextPair(line=line, source=text, target=_NO_ANSWER)
        case _:
            turns = (ChatMessage(role="user", content=text), ChatMessage(role="assistant", content=_NO_ANSWER))
            return ChatRow(line=line, messages=turns, is_completion=is_completion)


def _answers(asked: Heldout, model: AdapterWeights | None, tuned: AdapterWeights) -> dict[int, str]:
    """Line → answer; lines that could not be read are missing. `model` None is what stands for the base of `tuned`."""
    rows, poll = asked.encoded.rows, asked.progress.poll
    if not rows:
        return {}
    lines = [row.line for row in rows]
    if asked.spec.recipe.endswith("_classification"):
        run = HeadRun(asked)
        judged = run.judge("expectations", run.base(tuned) if model is None else run.tuned(model))
        return {
            line: shown(asked.recipe, row, judged.found[line]) for line, row in zip(lines, asked.wanted, strict=True)
        }
    if asked.spec.recipe == "summarization":
        texts: Sequence[str] = writer_of(asked).write(
            model, range(len(rows)), max_new_tokens=_MOST_TOKENS, on_batch=lambda _count: poll()
        )
        return dict(zip(lines, texts, strict=True))
    questions = make_questions(cast("Sequence[ChatRow]", asked.rows), rows)
    found = answer_all(asked.resident, model, questions, max_new_tokens=_MOST_TOKENS, poll=poll)
    return {question.line: answer.text for question, answer in zip(questions, found, strict=True)}
