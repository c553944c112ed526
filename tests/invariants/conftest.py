"""One thread, fp32, a tiny base of each family, and each recipe's job in turn."""

import pytest
import torch

from tests.invariants.recipe_runs import JOBS, SUMMARIES, TEXT, RecipeJob, build_base
from tests.workers.engine.conftest import one_thread_fp32, tiny, tiny_ref
from workers.engine.base_model import ResidentBase, load_base

__all__ = ["one_thread_fp32", "tiny", "tiny_ref"]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory, one_thread_fp32: None) -> ResidentBase:
    return load_base(build_base(TEXT, tmp_path_factory.mktemp("bases") / "encoder"), torch.device("cpu"))


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory, one_thread_fp32: None) -> ResidentBase:
    return load_base(build_base(SUMMARIES, tmp_path_factory.mktemp("bases") / "pair"), torch.device("cpu"))


@pytest.fixture(params=JOBS, ids=lambda job: job.name)
def job(request: pytest.FixtureRequest) -> RecipeJob:
    return request.param


@pytest.fixture
def resident(job: RecipeJob, tiny: ResidentBase, tiny_encoder: ResidentBase, tiny_pair: ResidentBase) -> ResidentBase:
    """The base of the job's family."""
    return {"decoder": tiny, "encoder": tiny_encoder, "encoder_decoder": tiny_pair}[job.family]
