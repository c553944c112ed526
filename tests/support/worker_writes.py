"""Every call by which the holder of a lease writes about its job; a test compares the list with the interface."""

from collections.abc import Callable
from typing import Any

from app.contracts.errors import WorkerError
from app.contracts.reports import Encoded, Evaluation, Latency, ModelScores
from app.jobs.worker_service import JobWorkerService
from tests.support.job_world import adapter, metric

Verb = Callable[[JobWorkerService, str, int], Any]

_ENCODED = Encoded(
    run_id="r",
    rows_in=1,
    rows_trained=1,
    dropped=(),
    truncated=0,
    tokens=1,
    supervised_tokens=1,
    longest=1,
    total_steps=1,
    trainable_parameters=1,
    targets=("q_proj",),
)
_LATENCY = Latency(
    n=1,
    time_to_first_token_ms_p50=1,
    time_to_first_token_ms_p95=1,
    tokens_per_second_p50=1,
    end_to_end_ms_p50=1,
    end_to_end_ms_p95=1,
)
_SCORES = ModelScores(loss=1.0, token_accuracy=0.5, supervised_tokens=1, latency=_LATENCY, evaluation_seconds=0.1)
_EVALUATION = Evaluation(run_id="r", rows=1, labels=None, base=_SCORES, tuned=_SCORES, samples=())
_ERROR = WorkerError(kind="fatal", code="stale", message="stale")

WRITES: dict[str, Verb] = {
    "record_event": lambda jobs, job, fence: jobs.record_event(job, fence, "stale"),
    "record_encoded": lambda jobs, job, fence: jobs.record_encoded(job, fence, _ENCODED),
    "record_metrics": lambda jobs, job, fence: jobs.record_metrics(job, fence, [metric(fence)]),
    "record_resume_checkpoint": lambda jobs, job, fence: jobs.record_resume_checkpoint(job, fence, 1, f"k{fence}", "0"),
    "publish_checkpoint": lambda jobs, job, fence: jobs.publish_checkpoint(
        job, fence, fence, adapter(f"a{fence}"), None, is_final=False
    ),
    "record_evaluation": lambda jobs, job, fence: jobs.record_evaluation(job, fence, _EVALUATION),
    "succeed": lambda jobs, job, fence: jobs.succeed(job, fence, trained_tokens=1),
    "lose_shared": lambda jobs, job, fence: jobs.lose_shared(job, fence, "stale"),
    "fail": lambda jobs, job, fence: jobs.fail(job, fence, _ERROR),
    "release": lambda jobs, job, fence: jobs.release(job, fence),
}
