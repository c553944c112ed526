"""Nothing is fetched, nothing that is code is loaded, nothing is made up."""

import ast
import json
import pickle
import socket
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file

from app.contracts.errors import WorkerFailure
from app.contracts.specs import AdapterRef, GenerateSpec, SamplingSpec
from tests.invariants.recipe_runs import CHAT, build_base, evaluation_spec, make_spec, run
from tests.support.tiny_models import build_tiny_base
from workers.engine.base_model import load_base
from workers.engine.evaluation.run import evaluate
from workers.engine.inference.adapters import load_verified_adapter
from workers.engine.inference.generate import StepDelta, generate
from workers.engine.inference.requests import encode_request

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def no_network(monkeypatch):
    """Every try to reach anything fails the test, with the hub's own offline switch off."""
    tried: list[object] = []

    def refuse(*arguments: object, **_options: object) -> None:
        tried.append(arguments)
        raise AssertionError(f"a connection was tried: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield
    assert tried == []


def test_loading_training_evaluating_and_serving_reach_no_network(job, tmp_path, no_network):
    resident = load_base(build_base(job, tmp_path / "base"), CPU)
    spec = make_spec(job, resident, tmp_path, rows=8, valid=4, n_epochs=1)
    found = run(resident, spec)
    reports = []
    evaluate(resident, evaluation_spec(spec, found), reports.append, lambda: None)
    assert reports[-1].kind == "evaluation"
    if job is CHAT:
        request = GenerateSpec(
            base=resident.ref,
            messages=({"role": "user", "content": "Hello"},),
            sampling=SamplingSpec(max_new_tokens=4, temperature=0),
        )
        prompt = encode_request(resident, request, key=0)
        adapter = load_verified_adapter(resident, evaluation_spec(spec, found).adapter)
        events = list(generate(resident, adapter, [prompt]))
        assert any(isinstance(event, StepDelta) for event in events)


class Evil:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return (Path.touch, (self.mark,))


def test_weights_that_are_a_pickle_are_not_read(tmp_path):
    folder, mark = tmp_path / "base", tmp_path / "mark"
    ref = build_tiny_base(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(WorkerFailure) as failure:
        load_base(ref, CPU)
    assert failure.value.error.code == "invalid_base"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(WorkerFailure) as failure:
        load_base(ref, CPU)
    assert failure.value.error.code == "invalid_base"
    assert not mark.exists()


@pytest.mark.parametrize("model_type", ["llama", "unheard_of"])
def test_code_beside_the_weights_is_not_run(tmp_path, model_type):
    folder, mark = tmp_path / "base", tmp_path / "mark"
    ref = build_tiny_base(folder)
    (folder / "modeling_evil.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type, "auto_map": names}))
    if model_type == "unheard_of":
        with pytest.raises(WorkerFailure) as failure:
            load_base(ref, CPU)
        assert failure.value.error.code == "invalid_base"
    else:
        assert load_base(ref, CPU).model.config.model_type == "llama"
    assert not mark.exists()


def test_an_adapter_that_is_a_pickle_is_not_read(tiny, tmp_path):
    mark = tmp_path / "mark"
    finished = run(tiny, make_spec(CHAT, tiny, tmp_path, rows=4, n_epochs=1)).finished
    folder = Path(finished.adapter_path)
    (folder / "adapter_model.safetensors").write_bytes(pickle.dumps(Evil(mark)))
    ref = AdapterRef(id="evil", path=str(folder), sha256="0" * 64)
    with pytest.raises(WorkerFailure):
        load_verified_adapter(tiny, ref)
    assert not mark.exists()


def test_what_a_run_writes_is_json_and_safetensors_only(job, resident, tmp_path):
    run(resident, make_spec(job, resident, tmp_path, valid=4))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".safetensors"}
    for path in files:
        if path.suffix == ".safetensors":
            assert load_file(path)
        else:
            texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            assert all(json.loads(text) for text in texts)


def test_no_module_of_ours_can_unpickle_or_trust_code():
    """`trust_remote_code` is written out as False wherever transformers could be asked to load."""
    guilty = []
    for path in sorted(file for package in ("app", "workers") for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import) and {a.name for a in node.names} & {
                "pickle",
                "dill",
                "cloudpickle",
                "shelve",
            }:
                guilty.append(f"{where} imports a pickler")
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func) == "torch.load":
                guilty.append(f"{where} calls torch.load")
            if node.func.attr == "from_pretrained":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                trusts = given.get("trust_remote_code") != "False" and "GenerationConfig" not in ast.unparse(node.func)
                if trusts or given.get("local_files_only") != "True":
                    guilty.append(f"{where} loads with {given}")
    assert guilty == []


def test_a_missing_or_damaged_rows_file_fails_the_run_and_no_rows_are_made_up(tiny, tmp_path):
    spec = make_spec(CHAT, tiny, tmp_path)
    path = Path(spec.train_rows)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(WorkerFailure) as failure:
        run(tiny, spec)
    assert failure.value.error.kind == "transient"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        run(tiny, spec)
    assert not (tmp_path / "out").exists()
