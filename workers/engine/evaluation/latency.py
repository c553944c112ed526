"""How fast each model answers: one request at a time, after a warm-up, the models in turns."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.contracts.reports import Latency
from app.contracts.specs import SamplingSpec
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.metrics import percentile
from workers.engine.evaluation.questions import Question
from workers.engine.inference.generate import RunningBatch
from workers.engine.inference.prompts import Prompt
from workers.engine.training.lora import AdapterWeights


@dataclass
class _Times:
    first_ms: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)
    whole_ms: list[float] = field(default_factory=list)


def measure_latency(
    resident: ResidentBase,
    models: Mapping[str, AdapterWeights | None],
    questions: Sequence[Question],
    *,
    new_tokens: int,
    on_row: Callable[[], None] = lambda: None,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Latency]:
    """Times of every model on every question, `new_tokens` (at least 2) each, end tokens ignored.

    All models answer a question before the next one is asked, in an order that alternates, so that
    noise on the machine hits them alike. `on_row` and `poll`, called at every token, may raise to stop.
    """
    times = {name: _Times() for name in models}
    names = list(models)
    for name in names:
        _time_one(resident, models[name], questions[0], new_tokens=new_tokens, times=_Times(), poll=poll)
        on_row()
    for number, question in enumerate(questions):
        for name in names if number % 2 == 0 else reversed(names):
            _time_one(resident, models[name], question, new_tokens=new_tokens, times=times[name], poll=poll)
        on_row()
    return {name: _summary(found) for name, found in times.items()}


def _time_one(
    resident: ResidentBase,
    adapter: AdapterWeights | None,
    question: Question,
    *,
    new_tokens: int,
    times: _Times,
    poll: Callable[[], None],
) -> None:
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
    ended = time.perf_counter()
    times.first_ms.append((first - started) * 1000)
    times.whole_ms.append((ended - started) * 1000)
    times.tokens_per_second.append((new_tokens - 1) / max(ended - first, 1e-9))


def _summary(times: _Times) -> Latency:
    return Latency(
        n=len(times.whole_ms),
        time_to_first_token_ms_p50=percentile(times.first_ms, 50),
        time_to_first_token_ms_p95=percentile(times.first_ms, 95),
        tokens_per_second_p50=percentile(times.tokens_per_second, 50),
        end_to_end_ms_p50=percentile(times.whole_ms, 50),
        end_to_end_ms_p95=percentile(times.whole_ms, 95),
    )
