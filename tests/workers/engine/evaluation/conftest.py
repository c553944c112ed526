"""Tiny bases, and evaluations of adapters on them."""

import hashlib

import pytest
import torch

from app.contracts.reports import Evaluation
from app.contracts.specs import AdapterRef, EvalSpec, LoraSpec
from tests.support.tiny_encoders import build_tiny_encoder
from tests.support.tiny_models import build_tiny_base
from tests.workers.engine.recipes.conftest import head_spec
from workers.engine.base_model import load_base
from workers.engine.evaluation.run import evaluate
from workers.engine.training.adapter_files import WEIGHTS_FILE, encode_adapter
from workers.engine.training.loop import train
from workers.engine.training.synced_files import write_file


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_base(build_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny"), torch.device("cpu"))


def trained(encoder, folder, rows, **changes):
    """The evaluation spec of an adapter trained on `rows`, held out rows beside it."""
    reports = []
    spec = head_spec(encoder.ref, folder, rows, **({"token_budget": 400, "n_epochs": 4} | changes))
    train(encoder, spec, reports.append, lambda: None)
    finished = reports[-1]
    return EvalSpec(
        run_id="eval-1",
        base=encoder.ref,
        adapter=AdapterRef(id="ft:tiny", path=finished.adapter_path, sha256=finished.adapter_sha256),
        recipe=spec.recipe,
        labels=spec.labels,
        rows=spec.train_rows,
        max_length=64,
        latency_rows=2,
    )


def evaluated(encoder, spec):
    reports = []
    evaluate(encoder, spec, reports.append, lambda: None)
    assert isinstance(reports[-1], Evaluation)
    return reports[-1]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    torch.set_num_threads(1)
    return load_base(build_tiny_base(tmp_path_factory.mktemp("decoder") / "base"), torch.device("cpu"))


def chat_spec(resident, folder, rows, **changes):
    """The evaluation of an adapter that moved on held-out conversations; all of it lies in `folder`."""
    adapter = resident.linears.new_adapter(LoraSpec(rank=4, alpha=8))
    generator = torch.Generator().manual_seed(1)
    adapter.initialise(generator)
    for b in adapter.B.values():
        b.copy_(torch.randn(b.shape, generator=generator) * 0.2)
    (folder / "adapter").mkdir()
    for name, data in encode_adapter(adapter, "tiny").items():
        write_file(folder / "adapter" / name, data)
    (folder / "rows.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    sha256 = hashlib.sha256((folder / "adapter" / WEIGHTS_FILE).read_bytes()).hexdigest()
    fields = {
        "run_id": "eval-1",
        "base": resident.ref,
        "adapter": AdapterRef(id="ft:tiny", path=str(folder / "adapter"), sha256=sha256),
        "rows": str(folder / "rows.jsonl"),
        "max_length": 64,
        "latency_rows": 1,
        "latency_new_tokens": 2,
    }
    return EvalSpec(**(fields | changes))
