"""Sends a load as planned, whether or not answers come, and keeps what each request came to."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from app.load.answer import Answer, AnswerFailed, AnswerReader, Record
from app.load.plan import Arrival, Block, LoadPlan, Messages, blocks_of

_PATH = "/v1/chat/completions"
# Before a block begins, so that its first request is not late already.
_LEAD_SECONDS = 0.05


@dataclass(frozen=True)
class Service:
    """Where the models are asked: the address without `/v1`, and the key for it."""

    base_url: str
    api_key: str
    reads_proxies: bool = True


async def run_load(
    plan: LoadPlan,
    service: Service,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    on_block: Callable[[Block], None] = lambda _: None,
) -> dict[str, list[Record]]:
    """Measured requests of every model, in planned order; warm-up requests are left out.

    Each model answers one request first, which loads its weights: `AnswerFailed` if that fails. From then on an
    error is a failed request.
    """
    # No limit to connections: a request that waits for one here would be timed as if the service were slow.
    async with httpx.AsyncClient(
        base_url=service.base_url,
        headers={"Authorization": f"Bearer {service.api_key}"},
        timeout=None,  # noqa: S113 - each request has one limit for all of it
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        trust_env=service.reads_proxies,
        transport=transport,
    ) as http:
        run = _Run(http, plan)
        for model in plan.models:
            await run.wake(model)
        records: dict[str, list[Record]] = {model: [] for model in plan.models}
        for block in blocks_of(plan):
            on_block(block)
            records[block.model] += await run.block(block)
        return records


class _Run:
    def __init__(self, http: httpx.AsyncClient, plan: LoadPlan) -> None:
        self._http = http
        self._plan = plan
        # The clock that the schedule is kept by is the one that times are read from.
        self._clock = asyncio.get_running_loop().time

    async def wake(self, model: str) -> None:
        record = await self._ask(0, model, self._plan.prompts[0], self._clock())
        if record.answer is None:
            raise AnswerFailed(str(record.error_kind), str(record.error))

    async def block(self, block: Block) -> list[Record]:
        """Ends with the last answer."""
        start = self._clock() + _LEAD_SECONDS
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._arrive(block, arrival, start)) for arrival in block.arrivals]
        return [task.result() for task, arrival in zip(tasks, block.arrivals, strict=True) if not arrival.is_warm_up]

    async def _arrive(self, block: Block, arrival: Arrival, start: float) -> Record:
        planned = start + arrival.at
        await asyncio.sleep(planned - self._clock())
        return await self._ask(block.number, block.model, arrival.prompt, planned)

    async def _ask(self, block: int, model: str, prompt: Messages, planned: float) -> Record:
        sent = self._clock()
        try:
            async with asyncio.timeout(self._plan.timeout_seconds):
                answer = await self._stream(model, prompt)
        except (AnswerFailed, TimeoutError, httpx.RequestError) as error:
            kind, said = _told(error, self._plan.timeout_seconds)
            return Record(block, planned, sent, self._clock(), answer=None, error_kind=kind, error=said)
        return Record(block, planned, sent, answer.ended, answer)

    async def _stream(self, model: str, prompt: Messages) -> Answer:
        body = {
            "model": model,
            "messages": list(prompt),
            "max_completion_tokens": self._plan.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with self._http.stream("POST", _PATH, json=body) as response:
            if response.is_error:
                await response.aread()
                raise AnswerFailed(f"HTTP {response.status_code}", _message(response))
            return await AnswerReader(self._clock).read(response.aiter_lines())


def _told(error: Exception, timeout_seconds: float) -> tuple[str, str]:
    """Its kind, and what happened in words."""
    if isinstance(error, AnswerFailed):
        return error.kind, str(error)
    if isinstance(error, TimeoutError):
        return "timeout", f"no whole answer within {timeout_seconds:g} s"
    return "connection", f"{type(error).__name__}: {error}"


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return response.text.strip()[:200]
