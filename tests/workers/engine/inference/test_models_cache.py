import queue

import pytest
import torch

from app.contracts.errors import WorkerFailure, usage
from app.contracts.generation import ErrorLine
from app.contracts.specs import BaseRef, GenerateSpec, SamplingSpec
from workers.engine.inference.models_cache import ModelsCache
from workers.engine.inference.scheduler import Job, Scheduler


def spec_for(resident, name):
    base = BaseRef(id=name, path="/nowhere", weights_sha256=name, context_length=64)
    return GenerateSpec(base=base, prompt="Hello", sampling=SamplingSpec(max_new_tokens=2))


class Loader:
    def __init__(self, resident):
        self.resident = resident
        self.loaded = []

    def __call__(self, ref, device):
        if ref.id == "broken":
            raise RuntimeError("the disk is on fire")
        if ref.id == "unknown":
            raise usage("invalid_base", "no such folder")
        self.loaded.append(ref.id)
        return self.resident


@pytest.fixture
def loader(resident):
    ref = resident.ref
    yield Loader(resident)
    resident.ref = ref


def make_cache(loader, max_bases=2):
    return ModelsCache(torch.device("cpu"), max_bases=max_bases, max_adapters=2, load=loader)


def test_the_base_used_longest_ago_leaves_first(resident, loader):
    cache = make_cache(loader)
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(spec_for(resident, name))
    assert loader.loaded == ["a", "b", "c", "b"]


def test_a_base_in_use_stays(resident, loader):
    cache = make_cache(loader)
    for name in ("a", "b"):
        cache.get(spec_for(resident, name))
    assert not cache.can_serve(spec_for(resident, "c"), busy={"a", "b"})
    assert cache.can_serve(spec_for(resident, "c"), busy={"a"})
    cache.get(spec_for(resident, "c"), busy={"a"})
    cache.get(spec_for(resident, "a"))
    assert loader.loaded == ["a", "b", "c"]


def answer(scheduler, spec):
    """All lines of one request, waited for."""
    lines = queue.SimpleQueue()
    scheduler.submit(Job(spec, lines.put))
    found = [lines.get(timeout=30)]
    while found[-1].kind not in {"done", "error"}:
        found.append(lines.get(timeout=30))
    return found


def test_more_bases_than_fit_are_served_in_turns(resident, loader):
    scheduler = Scheduler(make_cache(loader, max_bases=1))
    scheduler.start()
    for name in ("a", "b", "a"):
        assert answer(scheduler, spec_for(resident, name))[-1].kind == "done"
    assert loader.loaded == ["a", "b", "a"]
    scheduler.stop()
    scheduler.join(30)


def test_a_model_that_breaks_costs_its_request_and_nothing_else(resident, loader, capfd):
    scheduler = Scheduler(make_cache(loader))
    scheduler.start()
    (line,) = answer(scheduler, spec_for(resident, "broken"))
    assert isinstance(line, ErrorLine)
    assert (line.error.kind, line.error.code) == ("fatal", "engine_error")
    assert "fire" not in line.error.message
    assert "the disk is on fire" in capfd.readouterr().err
    (line,) = answer(scheduler, spec_for(resident, "unknown"))
    assert line.error.code == "invalid_base"
    assert answer(scheduler, spec_for(resident, "a"))[-1].kind == "done"
    scheduler.stop()
    scheduler.join(30)
    assert not scheduler.is_alive
    with pytest.raises(WorkerFailure, match="stopping"):
        scheduler.submit(Job(spec_for(resident, "a"), lambda line: None))
