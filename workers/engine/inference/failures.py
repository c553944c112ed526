"""What callers are told of exceptions nobody expected."""

import sys
import traceback

import torch

from app.contracts.errors import WorkerError


def describe(error: Exception) -> WorkerError:
    """What the caller is told about an unexpected exception: never paths or stacks; those go to the log."""
    traceback.print_exception(error, file=sys.stderr)
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
    if is_memory:
        message = "The device ran out of memory while answering; try again, or send a shorter prompt."
        return WorkerError(kind="transient", code="out_of_memory", message=message)
    message = f"The serving process failed unexpectedly ({type(error).__name__}); its log has the details."
    return WorkerError(kind="fatal", code="engine_error", message=message)
