"""How fast each model answers: one request at a time, after a warm-up, the models in turns."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from app.contracts.reports import Latency
from app.contracts.specs import SamplingSpec
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.metrics import percentile
from workers.engine.evaluation.questions import Question
from workers.engine.inference.generate import RunningBatch
from workers.engine.inference.prompts import Prompt
from workers.engine.training.lora import AdapterWeights

ModelT = TypeVar("ModelT")
QuestionT = TypeVar("QuestionT")


class AnswerTime(NamedTuple):
    """One answer: until its first token, and until its last of `tokens`."""

    first_seconds: float
    whole_seconds: float
    tokens: int


def time_in_turns(
    models: Mapping[str, ModelT],
    questions: Sequence[QuestionT],
    time_one: Callable[[ModelT, QuestionT], AnswerTime],
    *,
    on_row: Callable[[], None] = lambda: None,
) -> dict[str, Latency]:
    """Times of every model on every question, after a warm-up with the first; `on_row` may raise to stop.

    All models answer a question before the next one is asked, in an order that alternates, so that
    noise on the machine hits them alike.
    """
    times: dict[str, list[AnswerTime]] = {name: [] for name in models}
    names = list(models)
    for name in names:
        time_one(models[name], questions[0])
        on_row()
    for number, question in enumerate(questions):
        for name in names if number % 2 == 0 else reversed(names):
            times[name].append(time_one(models[name], question))
        on_row()
    return {name: _summary(found) for name, found in times.items()}


def measure_latency(
    resident: ResidentBase,
    models: Mapping[str, AdapterWeights | None],
    questions: Sequence[Question],
    *,
    new_tokens: int,
    on_row: Callable[[], None] = lambda: None,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Latency]:
    """`time_in_turns` for a decoder: `new_tokens` (at least 2) an answer, end tokens ignored.

    `poll`, called at every token, may raise to stop.
    """

    def time_one(adapter: AdapterWeights | None, question: Question) -> AnswerTime:
        return _time_one(resident, adapter, question, new_tokens=new_tokens, poll=poll)

    return time_in_turns(models, questions, time_one, on_row=on_row)


def _time_one(
    resident: ResidentBase,
    adapter: AdapterWeights | None,
    question: Question,
    *,
    new_tokens: int,
    poll: Callable[[], None],
) -> AnswerTime:
    # The prompt gives way where it fills the context: its length is still that of a real request.
    room = resident.ref.context_length - new_tokens
    sampling = SamplingSpec(max_new_tokens=new_tokens, temperature=0)
    prompt = Prompt(0, question.prompt_ids[-room:], sampling, ignores_end_tokens=True)
    batch = RunningBatch(resident, adapter)
    started = time.perf_counter()
    deque(batch.admit([prompt]), maxlen=0)
    first = time.perf_counter()
    while not batch.is_idle:
        batch.step()
        poll()
    return AnswerTime(first - started, time.perf_counter() - started, new_tokens)


def _summary(times: Sequence[AnswerTime]) -> Latency:
    first_ms = [taken.first_seconds * 1000 for taken in times]
    whole_ms = [taken.whole_seconds * 1000 for taken in times]
    return Latency(
        n=len(times),
        time_to_first_token_ms_p50=percentile(first_ms, 50),
        time_to_first_token_ms_p95=percentile(first_ms, 95),
        tokens_per_second_p50=percentile(
            [(taken.tokens - 1) / max(taken.whole_seconds - taken.first_seconds, 1e-9) for taken in times], 50
        ),
        end_to_end_ms_p50=percentile(whole_ms, 50),
        end_to_end_ms_p95=percentile(whole_ms, 95),
        end_to_end_ms=tuple(whole_ms),
    )
