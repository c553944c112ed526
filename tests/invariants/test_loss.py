"""The loss is a sum over what is supervised, divided once: the same however rows are grouped, and the model's own."""

import math

import pytest
import torch

from tests.invariants.recipe_runs import first_gradient, make_spec, run, started_adapter
from tests.invariants.references import Reference

# peft 0.21 asks transformers 5 for a property it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
ALL_AT_ONCE, ONE_BY_ONE = 100_000, 1


@pytest.fixture
def start(job, resident, tmp_path):
    return started_adapter(job, resident, tmp_path / "start")


def test_the_gradient_of_eight_rows_at_once_is_that_of_eight_rows_one_by_one(job, resident, tmp_path, start):
    """Batch 8 without accumulation, batch 1 with 8 of it, and something between, on rows of unequal lengths."""
    found = [
        first_gradient(job, resident, tmp_path / str(budget), start, token_budget=budget)
        for budget in (ALL_AT_ONCE, ONE_BY_ONE, 150)
    ]
    (whole, run_of_whole), *others = found
    for split, run_of_split in others:
        assert (split - whole).norm() < 1e-5 * whole.norm()
        assert run_of_split.metrics[0].train_loss == pytest.approx(run_of_whole.metrics[0].train_loss, rel=1e-5)
        assert run_of_split.metrics[0].grad_norm == pytest.approx(run_of_whole.metrics[0].grad_norm, rel=1e-5)


def test_the_loss_and_every_gradient_are_those_of_transformers_and_peft_on_a_padded_batch(
    job, resident, tmp_path, start
):
    ours, found = first_gradient(job, resident, tmp_path / "ours", start, token_budget=150)
    reference = Reference(
        job, resident, tmp_path / "start" / "out" / "checkpoints" / "step-000006" / "adapter", continues=True
    )
    rows = job.make_rows(8)
    assert found.metrics[0].train_loss == pytest.approx(reference.loss(rows).item(), rel=1e-5)
    theirs = reference.gradients(rows)
    adapter = resident.linears.new_adapter(
        make_spec(job, resident, tmp_path / "spec", lora={"rank": 4, "alpha": 8}).lora,
        {name: tuple(leaf.shape) for name, leaf in sorted(reference.head.items())},
    )
    expected = torch.cat(
        [
            theirs[f"base_model.model.{name}.lora_{side}.weight"].flatten()
            for name in adapter.shapes
            for side in ("A", "B")
        ]
        + [theirs[name].flatten() for name in adapter.vectors]
    )
    assert expected.numel() == adapter.parameter_count == ours.numel()
    assert (ours - expected).norm() < 1e-4 * expected.norm()
    assert found.metrics[0].grad_norm == pytest.approx(expected.norm().item(), rel=1e-4)


def test_a_validation_gives_the_same_figures_for_batches_of_1_of_about_7_and_of_32_rows(job, resident, tmp_path, start):
    def validate(token_budget):
        spec = make_spec(
            job,
            resident,
            tmp_path / str(token_budget),
            rows=32,
            valid=32,
            batch_size=32,
            valid_rows_per_check=32,
            n_epochs=1,
            initial_adapter=start,
            lora={"rank": 4, "alpha": 8},
            optimizer={"learning_rate": 1e-12},
            token_budget=token_budget,
        )
        found = run(resident, spec)
        packs = max((r.total for r in found.of_kind("progress") if r.phase == "evaluate"), default=1)
        metric = found.metrics[-1]
        figures = (metric.full_valid_loss, metric.full_valid_mean_token_accuracy, metric.selection_score)
        return figures, packs, found.encoded.tokens

    whole, one, tokens = validate(ALL_AT_ONCE)
    sevens, few, _ = validate(7 * tokens // 32)
    singles, many, _ = validate(ONE_BY_ONE)
    assert (one, few, many) == (1, pytest.approx(5, abs=1), 32)
    assert all(math.isfinite(value) for value in whole)
    assert sevens == pytest.approx(whole, rel=1e-5)
    assert singles == pytest.approx(whole, rel=1e-5)
