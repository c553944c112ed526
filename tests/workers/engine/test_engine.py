import errno

import pytest
import torch
from safetensors import SafetensorError

from app.contracts.errors import usage
from app.contracts.specs import LoadBase
from tests.workers.engine.conftest import train_spec
from workers.engine.engine import Engine, StopSignal
from workers.engine.training import seating


@pytest.fixture
def reports():
    return []


@pytest.fixture
def engine(reports, tiny):
    return Engine(reports.append, device=torch.device("cpu"), resident=tiny)


@pytest.mark.parametrize(
    ("error", "kind", "code", "is_lost"),
    [
        (usage("bad_rows", "Mend line 3."), "usage", "bad_rows", False),
        (torch.OutOfMemoryError("CUDA out of memory"), "usage", "out_of_memory", False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "usage", "out_of_memory", False),
        (OSError(errno.ENOSPC, "No space left on device", "secret"), "transient", "disk_full", False),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "transient", "disk_full", False),
        (OSError(errno.EIO, "secret"), "fatal", "engine_error", False),
        (RuntimeError("secret /path"), "fatal", "engine_error", False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "fatal", "engine_error", True),
    ],
)
def test_every_failure_of_a_run_is_reported_to_its_addressee(  # noqa: PLR0917 pytest passes them by name
    engine, reports, tiny, tmp_path, monkeypatch, error, kind, code, is_lost
):
    def fail(*_arguments, **_named):
        raise error

    monkeypatch.setattr(seating, "open_seat", fail)
    engine.run(train_spec(tiny.ref, tmp_path), StopSignal())
    failed = reports[-1]
    assert (failed.kind, failed.run_id) == ("failed", "run-1")
    assert (failed.error.kind, failed.error.code, failed.engine_lost) == (kind, code, is_lost)
    assert "secret" not in failed.error.message


def test_a_base_with_the_same_weights_is_not_loaded_again(engine, reports, tiny):
    engine.run(LoadBase(base=tiny.ref.model_copy(update={"id": "another-name"})), StopSignal())
    assert engine.resident is not None
    assert engine.resident.model is tiny.model
    assert [(r.phase, r.done, r.total) for r in reports] == [("load", 1, 1)]
