"""A tiny encoder, and evaluations of adapters trained on it."""

import pytest
import torch

from app.contracts.reports import Evaluation
from app.contracts.specs import AdapterRef, EvalSpec
from tests.support.tiny_encoders import build_tiny_encoder
from tests.workers.engine.recipes.conftest import head_spec
from workers.engine.base_model import load_base
from workers.engine.evaluation.run import evaluate
from workers.engine.training.loop import train


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
