"""What sharing a process depends on, of a job whose numbers are fixed; and what its owner is told when it rides."""

from collections.abc import Mapping
from typing import Any

from app.jobs.estimates import EstimateObject
from app.jobs.memory_estimate import memory_parts
from app.pool.riding import Ride


def ride_of(spec: Mapping[str, Any], estimate: EstimateObject, *, parameters: int) -> Ride | None:
    """Of a training; None if it rides alone, as full fine-tuning does: it takes the base's own place."""
    if spec.get("tuning", "adapter") != "adapter":
        return None
    quantization = spec.get("quantization") or "none"
    memory = memory_parts(
        parameters=parameters,
        rank=spec["lora"]["rank"],
        is_4_bit=quantization == "nf4",
        device_kind=estimate.device_kind,
    )
    return Ride(
        quantization=quantization,
        shared_bytes=memory.base,
        own_bytes=memory.trained,
        in_turn_bytes=memory.activations,
        tokens=estimate.tokens,
        seconds=estimate.gpu_seconds,
    )


def where_it_runs(worker_id: str, others: int) -> str:
    """Of a job that runs."""
    if not others:
        return f"The job runs on {worker_id}."
    beside = "another job" if others == 1 else f"{others} other jobs"
    return f"The job runs on {worker_id} and shares its GPU with {beside} on the same base."
