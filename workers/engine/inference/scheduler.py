"""One thread runs all requests: they join their model's batch in order of arrival, batches step in turns.

Predictions take their turns between the steps of the batches.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from app.contracts.errors import WorkerError, WorkerFailure, transient
from app.contracts.generation import Done, ErrorLine, GenerationLine, Timing, TokenDelta
from app.contracts.specs import GenerateSpec
from workers.engine.inference.failures import describe
from workers.engine.inference.generate import Ended, RunningBatch, StepEvent
from workers.engine.inference.models_cache import ModelKey, ModelsCache, model_key
from workers.engine.inference.prediction_turns import PredictionTurns, PredictJob
from workers.engine.inference.prompts import Prompt
from workers.engine.inference.requests import encode_request, require_writer

MAX_WAITING = 256
_MAX_BATCHES = 4
_STOPPING = transient("server_stopping", "This serving process is stopping; send the request again.")
_MAX_CACHE_TOKENS = 16_384  # of one batch


@dataclass
class Job:
    """One request on its way. `deliver` is called from the generation thread with each line, `Done` or error last."""

    spec: GenerateSpec
    deliver: Callable[[GenerationLine], None]
    prompt: Prompt | None = None
    arrived: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first_token: float | None = None
    is_cancelled: bool = False  # set by whoever waits for the answer, seen before the next step


class Scheduler:
    """Owns the models and the batches. Admission is strictly first come, first served."""

    def __init__(self, models: ModelsCache) -> None:
        self._models = models
        self._inbox: queue.SimpleQueue[Job | PredictJob | None] = queue.SimpleQueue()  # None wakes the thread
        self._waiting: deque[Job | PredictJob] = deque()
        self._batches: dict[ModelKey, RunningBatch] = {}
        self._jobs: dict[int, tuple[Job, ModelKey]] = {}
        self._predictions = PredictionTurns()
        self._next_key = 0
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Every open answer ends with a transient error; returns at once, `join` waits."""
        self._is_stopping = True
        self._inbox.put(None)

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def running(self) -> int:
        return len(self._jobs) + len(self._predictions)

    @property
    def waiting(self) -> int:
        return len(self._waiting) + self._inbox.qsize()

    def submit(self, job: Job | PredictJob) -> None:
        """Raises a transient failure when too many wait already or the process is about to leave."""
        if self._is_stopping:
            raise _STOPPING
        if self.waiting >= MAX_WAITING:
            raise transient("server_busy", f"{MAX_WAITING} requests are waiting already; try again in a few seconds.")
        self._inbox.put(job)

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._collect(block=not (self._waiting or self._batches or len(self._predictions)))
                self._drop_cancelled()
                self._admit()
                for key, batch in list(self._batches.items()):
                    self._guard(key, batch.step)
                    if batch.is_idle:
                        self._batches.pop(key, None)
                self._predictions.take()
        finally:
            self._is_stopping = True
            self._collect(block=False)
            leaving = ErrorLine(error=_STOPPING.error)
            for job in (*self._waiting, *(job for job, _ in self._jobs.values())):
                job.deliver(leaving)
            self._predictions.end_all(_STOPPING.error)

    def _collect(self, *, block: bool) -> None:
        while block or not self._inbox.empty():
            job = self._inbox.get()
            block = False
            if job is not None:
                self._waiting.append(job)

    def _drop_cancelled(self) -> None:
        self._waiting = deque(job for job in self._waiting if not job.is_cancelled)
        self._predictions.drop_cancelled()
        for key, (job, batch) in list(self._jobs.items()):
            if job.is_cancelled:
                self._batches[batch].cancel(key)
                del self._jobs[key]
        self._batches = {key: batch for key, batch in self._batches.items() if not batch.is_idle}

    def _admit(self) -> None:
        """Let waiting requests in until the first that has no room; those of one model are prefilled together."""
        joining: dict[ModelKey, list[Prompt]] = {}
        while self._waiting:
            job = self._waiting[0]
            try:
                is_in = self._begin(job) if isinstance(job, PredictJob) else self._join(job, joining)
            except WorkerFailure as failure:
                self._refuse_first(failure.error)
                continue
            except Exception as error:  # noqa: BLE001 — the command edge: one request must not end the process
                self._refuse_first(describe(error))
                continue
            if not is_in:
                break
            self._waiting.popleft()
        for key, prompts in joining.items():
            self._guard(key, partial(self._batches[key].admit, prompts))

    def _begin(self, job: PredictJob) -> bool:
        """Whether there was room for the request and its model."""
        busy = self._busy()
        if not self._predictions.has_room or not self._models.can_serve(job.spec, busy):
            return False
        self._predictions.open(job, *self._models.get_tuned(job.spec, busy))
        return True

    def _join(self, job: Job, joining: dict[ModelKey, list[Prompt]]) -> bool:
        """Whether there was room for the request in its model's batch; `joining` is who gets in beside it."""
        key = model_key(job.spec)
        prompt = self._prepare(job, key)
        if prompt is None or not self._batches[key].has_room(prompt, joining.get(key, [])):
            return False
        job.admitted = time.monotonic()
        self._jobs[prompt.key] = (job, key)
        joining.setdefault(key, []).append(prompt)
        return True

    def _busy(self) -> set[str]:
        """Hashes of the bases at work."""
        return {base for base, _ in self._batches} | set(self._predictions.bases)

    def _prepare(self, job: Job, key: ModelKey) -> Prompt | None:
        """The request in tokens, with a batch open for it; None where its model cannot be loaded yet."""
        if key not in self._batches:
            busy = self._busy()
            if len(self._batches) >= _MAX_BATCHES or not self._models.can_serve(job.spec, busy):
                return None
            resident, adapter = self._models.get(job.spec, busy)
            require_writer(resident, adapter)
            self._batches[key] = RunningBatch(resident, adapter, max_cache_tokens=_MAX_CACHE_TOKENS)
        if job.prompt is None:
            self._next_key += 1
            job.prompt = encode_request(self._batches[key].resident, job.spec, key=self._next_key)
        return job.prompt

    def _refuse_first(self, error: WorkerError) -> None:
        self._waiting.popleft().deliver(ErrorLine(error=error))

    def _guard(self, key: ModelKey, work: Callable[[], Iterable[StepEvent]]) -> None:
        """Do a batch's work and deliver its lines; if it breaks, its requests get the error and the batch goes."""
        try:
            for event in work():
                self._deliver(event)
        except Exception as error:  # noqa: BLE001 — the command edge: one batch must not end the process
            self._batches.pop(key, None)
            line = ErrorLine(error=describe(error))
            for job_key, (job, batch) in list(self._jobs.items()):
                if batch == key:
                    del self._jobs[job_key]
                    job.deliver(line)

    def _deliver(self, event: StepEvent) -> None:
        job, _ = self._jobs[event.key]
        now = time.monotonic()
        if not isinstance(event, Ended):
            if job.first_token is None and isinstance(event.line, TokenDelta):
                job.first_token = now
            job.deliver(event.line)
            return
        del self._jobs[event.key]
        first = job.first_token
        timing = Timing(
            queued_ms=(job.admitted - job.arrived) * 1000,
            time_to_first_token_ms=None if first is None else (first - job.arrived) * 1000,
            total_ms=(now - job.arrived) * 1000,
        )
        job.deliver(Done(usage=event.usage, timing=timing))
