"""One turn of a claimed eval run: lay out its items once, then score what is not done, several items at a time.

A turn ends after a while although work is left, so that runs take turns and jobs are inspected in between. Each item is
written as soon as it is done; a worker that is killed loses only those it was at.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from app.artifacts.base import ArtifactStore
from app.chat.adapter_cache import AdapterCache
from app.chat.backend import Generator
from app.chat.http_backend import HttpGenerator
from app.chat.model_to_ask import ModelToAsk
from app.contracts.specs import AdapterRef
from app.errors import AppError, Unavailable
from app.evals.models import ModelAsker
from app.evals.run_messages import NewItem, PendingItem, RunTask, ScoredItem, StoredBytes
from app.evals.schemas import FileContent, StoredCompletions
from app.evals.scoring import RunPlan, score_item
from app.evals.sources import TooManyItems, from_content, from_lines
from app.logs import logger
from app.settings import Settings
from workers.supervisor.heartbeat import Heartbeat
from workers.supervisor.held_job import HeldRun
from workers.supervisor.lease import LeaseLost

_LAYOUT_ROWS = 500
_PAGE_ROWS = 100
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Scoring:
    """How runs are scored; a test gives its own generator."""

    open_generator: Callable[[Settings], Generator] = HttpGenerator
    at_once: int = 16
    """Items, and so answers of the serving engine, under way at a time."""
    turn_seconds: float = 15.0


class _Stopped(Exception):  # noqa: N818 - the state of the run
    """The run was canceled, or this worker leaves: items under way are dropped, and done again if the run goes on."""


def score_run(held: HeldRun, task: RunTask, scoring: Scoring, shutdown: threading.Event) -> None:
    """Only bugs raise; the lease then runs out by itself."""
    turn = _Turn(held, task, scoring, shutdown)
    try:
        with Heartbeat(held, lambda _: turn.canceled.set()):
            _take_turn(turn)
    except LeaseLost as lost:
        logger.warning("eval run %s is not ours any more: %s", task.run_id, lost)


@dataclass
class _Turn:
    held: HeldRun
    task: RunTask
    scoring: Scoring
    shutdown: threading.Event

    def __post_init__(self) -> None:
        self.canceled = threading.Event()
        self.ends_at = time.monotonic() + self.scoring.turn_seconds

    @property
    def is_over(self) -> bool:
        """Whether no further item shall begin."""
        return time.monotonic() >= self.ends_at

    def check(self) -> None:
        """Raise where even the items under way are not wanted any more."""
        self.held.lease.check()
        if self.canceled.is_set() or self.shutdown.is_set():
            raise _Stopped


def _take_turn(turn: _Turn) -> None:
    held, run_id, fence = turn.held, turn.held.run_id, turn.held.fence
    try:
        if not turn.task.is_laid_out:
            _lay_out(turn)
        is_done = asyncio.run(_score(turn))
    except _Stopped:
        held.write(lambda evals: evals.release(run_id, fence))
    except TooManyItems as error:
        message = str(error)
        held.write(lambda evals: evals.fail(run_id, fence, "too_many_items", message))
    except (Unavailable, OSError) as error:
        reason = error.message if isinstance(error, Unavailable) else f"a file could not be read: {error}"
        logger.warning("eval run %s waits: %s", run_id, reason)
        held.write(lambda evals: evals.crash(run_id, fence, reason))
    except AppError as error:
        code, message = error.code or "run_failed", error.message
        held.write(lambda evals: evals.fail(run_id, fence, code, message))
    else:
        held.write(lambda evals: evals.complete(run_id, fence) if is_done else evals.release(run_id, fence))


def _lay_out(turn: _Turn) -> None:
    """Every row as an item that waits. An attempt that broke off in the middle is gone through again."""
    held, task = turn.held, turn.task
    if isinstance(task.data_source.source, StoredCompletions):
        total = held.write(lambda evals: evals.add_stored_completions(task))
    else:
        total = 0
        for rows in _batches(_rows(held.context.artifacts, task), _LAYOUT_ROWS):
            turn.check()
            held.write(lambda evals, rows=rows: evals.add_items(task.run_id, task.fence, rows))  # type: ignore[misc]
            total += len(rows)
    if total == 0:
        raise AppError("The data source has no rows, so there is nothing to judge.", code="no_items")
    held.write(lambda evals: evals.finish_layout(task.run_id, task.fence, total))


def _rows(artifacts: ArtifactStore, task: RunTask) -> Iterator[NewItem]:
    source = task.data_source.source
    if isinstance(source, FileContent):
        return from_content(source.content)
    assert task.file is not None  # noqa: S101 - of a run that is not laid out
    return from_lines(_bytes(artifacts, task.file))


def _bytes(artifacts: ArtifactStore, file: StoredBytes) -> Iterable[bytes]:
    try:
        return artifacts.read(file.artifact_key)
    except KeyError:
        raise AppError(f"No such File object: {file.file_id}", code="resource_missing") from None


def _batches(rows: Iterator[NewItem], size: int) -> Iterator[list[NewItem]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch


async def _score(turn: _Turn) -> bool:
    """Score until nothing is left (True) or the turn is over."""
    held, task = turn.held, turn.task
    generator = turn.scoring.open_generator(held.context.settings)
    try:
        asker = ModelAsker(generator, await asyncio.to_thread(_local_models, held, task))
        plan = RunPlan(task.criteria, task.data_source, task.item_schema)
        async with aclosing(_scored(turn, plan, asker)) as batches:
            async for done in batches:
                await asyncio.to_thread(
                    held.write, lambda evals, done=done: evals.record(task.run_id, task.fence, done)
                )
    finally:
        await generator.aclose()
    left = await asyncio.to_thread(held.write, lambda evals: evals.pending(task.run_id, from_position=0, limit=1))
    return not left


def _local_models(held: HeldRun, task: RunTask) -> dict[str, tuple[ModelToAsk, AdapterRef | None]]:
    """Adapters as local files, beside those of the API on this host."""
    cache = AdapterCache(held.context.artifacts, held.context.settings.scratch_dir / "serving")
    return {
        name: (model, None if model.archive is None else cache.materialise(model.archive))
        for name, model in task.models.items()
    }


async def _scored(turn: _Turn, plan: RunPlan, asker: ModelAsker) -> AsyncGenerator[list[ScoredItem], None]:
    """Items as they are done. The first model that cannot be asked ends it, after what was done beside it."""
    waiting = _Waiting(turn)
    running: set[asyncio.Task[ScoredItem]] = set()
    try:
        while True:
            while len(running) < turn.scoring.at_once and not turn.is_over:
                item = await waiting.next()
                if item is None:
                    break
                running.add(asyncio.create_task(score_item(item, plan, asker)))
            if not running:
                return
            done, running = await asyncio.wait(running, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            failures = [task.exception() for task in done if task.exception() is not None]
            finished = [task.result() for task in done if task.exception() is None]
            if finished:
                yield finished
            for failure in failures:
                assert failure is not None  # noqa: S101 - filtered above
                raise failure
            turn.check()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Waiting:
    """Items that are not done, in order, read page by page."""

    def __init__(self, turn: _Turn) -> None:
        self._turn = turn
        self._page: list[PendingItem] = []
        self._from_position = 0
        self._is_exhausted = False

    async def next(self) -> PendingItem | None:
        if not self._page and not self._is_exhausted:
            run_id, start = self._turn.held.run_id, self._from_position
            self._page = await asyncio.to_thread(
                self._turn.held.write,
                lambda evals: evals.pending(run_id, from_position=start, limit=_PAGE_ROWS),
            )
            self._is_exhausted = len(self._page) < _PAGE_ROWS
            if self._page:
                self._from_position = self._page[-1].position + 1
        return self._page.pop(0) if self._page else None
