"""One item of a run: sampled where a model is asked, then judged by each criterion. No database."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.errors import AppError, Unavailable
from app.evals.graders.asking import Asker, Reply, Sampling
from app.evals.graders.grading import Grade, GradeFault, grade
from app.evals.graders.templates import TemplateFault, as_text, look_up, render
from app.evals.item_schema import misfit
from app.evals.run_messages import AnyCriterion, AnySource, PendingItem, ScoredItem
from app.evals.schemas import JsonlSource, RunSampling, Template
from app.evals.tally import Outcome, TokensUsed

NO_ERROR = {"code": "", "message": ""}
_SEED = 42


class SamplingAsker(Asker, Protocol):
    def context_length(self, model: str) -> int: ...


@dataclass(frozen=True)
class RunPlan:
    """What every item of a run is put through."""

    criteria: tuple[AnyCriterion, ...]
    data_source: AnySource
    item_schema: Mapping[str, Any] | None


class _ItemFault(Exception):  # noqa: N818 - of one row
    """The item cannot be judged at all."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def score_item(item: PendingItem, plan: RunPlan, asker: SamplingAsker) -> ScoredItem:
    """The item done. `Unavailable` if a model cannot be asked right now: the item is then as it was."""
    usage: list[TokensUsed] = []
    shown = _shown_given(item.given)
    try:
        values, shown = await _sampled(item, plan, asker, usage)
    except _ItemFault as fault:
        return _errored(item, plan, shown | {"error": {"code": fault.code, "message": fault.message}}, usage)
    results, outcomes = [], []
    for criterion in plan.criteria:
        result, outcome = await _judged(criterion, values, asker, usage)
        results.append(result)
        outcomes.append(outcome)
    return ScoredItem(item.id, _overall(outcomes), shown, results, tuple(outcomes), tuple(usage))


async def _sampled(
    item: PendingItem, plan: RunPlan, asker: SamplingAsker, usage: list[TokensUsed]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables of the graders, and the sample as it is shown."""
    if item.fault is not None:
        raise _ItemFault("invalid_row", item.fault)
    fault = None if plan.item_schema is None else misfit(item.item, plan.item_schema)
    if fault is not None:
        raise _ItemFault("item_schema_mismatch", f"The item is not what the eval's item_schema describes: {fault}.")
    source = plan.data_source
    if isinstance(source, JsonlSource) or source.model is None:
        given = _with_output_json(item.given or {})
        return {"item": item.item, "sample": given}, _shown_given(item.given)
    messages = _messages(item.item, source.input_messages)
    sampling = run_sampling(source.sampling_params)
    try:
        reply = await asker.ask(source.model, messages, sampling)
    except Unavailable:
        raise
    except AppError as error:
        raise _ItemFault(error.code or "sampling_failed", error.message) from error
    usage += _tokens([reply])
    limit = sampling.max_completion_tokens or asker.context_length(source.model)
    return {"item": item.item, "sample": _sample_values(reply)}, _shown_reply(reply, messages, sampling, limit)


def _messages(item: Mapping[str, Any], wanted: Any) -> list[dict[str, Any]]:
    """What the model is asked about this item; of a stored completion without a template, its own messages."""
    values = {"item": item}
    try:
        if isinstance(wanted, Template):
            return [{"role": m.role, "content": render(m.template, values)} for m in wanted.template]
        path = "item.input" if wanted is None else wanted.item_reference
        found = look_up(path, values)
    except TemplateFault as fault:
        raise _ItemFault("invalid_variable", str(fault)) from None
    if not isinstance(found, list) or not found or not all(isinstance(message, dict) for message in found):
        raise _ItemFault("invalid_variable", f"'{path}' is no list of messages")
    return found


def run_sampling(given: RunSampling | None) -> Sampling:
    """OpenAI's defaults; the seed is fixed, so that a run can be repeated."""
    given = given or RunSampling()
    text_format = None if given.text is None else given.text.format
    response_format = given.response_format or text_format
    return Sampling(
        max_completion_tokens=given.max_completion_tokens or given.max_completions_tokens,
        temperature=1.0 if given.temperature is None else given.temperature,
        top_p=1.0 if given.top_p is None else given.top_p,
        seed=_SEED if given.seed is None else given.seed,
        response_format=response_format,
        tools=given.tools,
    )


async def _judged(
    criterion: AnyCriterion, values: Mapping[str, Any], asker: SamplingAsker, usage: list[TokensUsed]
) -> tuple[dict[str, Any], Outcome]:
    result: dict[str, Any] = {"name": criterion.name, "type": criterion.type}
    try:
        found = await grade(criterion, values, asker)
    except GradeFault as fault:
        usage += _tokens(fault.replies)
        error = {"code": fault.kind, "message": fault.message}
        return result | {"passed": False, "score": 0.0, "error": error}, "errored"
    usage += _tokens(found.replies)
    result |= {"passed": found.passed, "score": found.score}
    if found.replies:
        result["sample"] = _grader_sample(found)
    if found.label is not None:
        result["label"] = found.label
    return result, "passed" if found.passed else "failed"


def _tokens(replies: Sequence[Reply]) -> list[TokensUsed]:
    return [TokensUsed(reply.model, reply.prompt_tokens, reply.completion_tokens) for reply in replies]


def _grader_sample(found: Grade) -> dict[str, Any]:
    reply = found.replies[0]
    return {
        "model": reply.model,
        "output": [{"role": "assistant", "content": reply.text}],
        "finish_reason": reply.finish_reason,
        "usage": _usage(reply.prompt_tokens, reply.completion_tokens),
    }


def _overall(outcomes: Sequence[Outcome]) -> Outcome:
    if "errored" in outcomes:
        return "errored"
    return "failed" if "failed" in outcomes else "passed"


def _errored(item: PendingItem, plan: RunPlan, shown: dict[str, Any], usage: Sequence[TokensUsed]) -> ScoredItem:
    """An item no criterion has seen."""
    unseen: list[Outcome] = ["errored"] * len(plan.criteria)
    return ScoredItem(item.id, "errored", shown, [], tuple(unseen), tuple(usage))


def sample_values(text: str) -> dict[str, Any]:
    """The variables of a sample that is only a text."""
    return _with_output_json({"output_text": text})


def _sample_values(reply: Reply) -> dict[str, Any]:
    message = reply.message
    return _with_output_json(
        {
            "output_text": reply.text,
            "output_tools": message.get("tool_calls") or [],
            "choices": [{"message": message, "finish_reason": reply.finish_reason}],
            "model": reply.model,
            "finish_reason": reply.finish_reason,
            "usage": _usage(reply.prompt_tokens, reply.completion_tokens),
        }
    )


def _with_output_json(sample: Mapping[str, Any]) -> dict[str, Any]:
    """`output_json` beside an `output_text` that is JSON."""
    values = dict(sample)
    text = values.get("output_text")
    if "output_json" not in values and isinstance(text, str):
        try:
            found = json.loads(text)
            # Half a surrogate pair is no text that could be sent to a model.
            json.dumps(found, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return values
        values["output_json"] = found
    return values


def _shown_given(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A sample nobody was asked for, in the wire's shape."""
    given = given or {}
    output = [] if "output_text" not in given else [{"role": "assistant", "content": as_text(given["output_text"])}]
    return {
        "input": [],
        "output": output,
        "finish_reason": as_text(given.get("finish_reason") or ""),
        "model": as_text(given.get("model") or ""),
        "usage": _usage(0, 0),
        "error": NO_ERROR,
        "temperature": 1.0,
        "max_completion_tokens": 0,
        "top_p": 1.0,
        "seed": 0,
    }


def _shown_reply(reply: Reply, messages: Sequence[Mapping[str, Any]], sampling: Sampling, limit: int) -> dict[str, Any]:
    output = {"role": "assistant", "content": reply.text}
    if reply.message.get("tool_calls"):
        output["tool_calls"] = reply.message["tool_calls"]
    return {
        "input": [{"role": as_text(m.get("role", "")), "content": _shown_content(m.get("content"))} for m in messages],
        "output": [output],
        "finish_reason": reply.finish_reason,
        "model": reply.model,
        "usage": _usage(reply.prompt_tokens, reply.completion_tokens),
        "error": NO_ERROR,
        "temperature": sampling.temperature,
        "max_completion_tokens": limit,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }


def _shown_content(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) if isinstance(part, dict) else as_text(part) for part in content)
    return as_text(content)


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "cached_tokens": 0,
    }
