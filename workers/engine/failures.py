"""What a supervisor is told of exceptions nobody expected in a run."""

import sys
import traceback

import torch

from app.contracts.errors import WorkerError, WorkerFailure, disk_full, is_disk_full
from app.contracts.reports import Failed


def failed(run_id: str, error: Exception) -> Failed:
    """The end of a run by this exception; never paths or stacks, which go to the log."""
    if isinstance(error, WorkerFailure):
        return Failed(run_id=run_id, error=error.error)
    traceback.print_exception(error, file=sys.stderr)
    if is_out_of_memory(error):
        message = "The device ran out of memory. Use a smaller batch size, shorter rows or a smaller base."
        return Failed(run_id=run_id, error=WorkerError(kind="usage", code="out_of_memory", message=message))
    if is_disk_full(error):
        return Failed(run_id=run_id, error=disk_full().error)
    message = f"The engine failed unexpectedly ({type(error).__name__}); its log has the details."
    return Failed(
        run_id=run_id,
        error=WorkerError(kind="fatal", code="engine_error", message=message),
        # After a CUDA fault every later call on the device fails too: the process is of no more use.
        engine_lost="CUDA error" in str(error) or isinstance(error, torch.AcceleratorError),
    )


def is_out_of_memory(error: BaseException) -> bool:
    """GPU allocator, CPU allocator (a plain RuntimeError) or Python itself."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
