"""`auto` becomes numbers that suit the data, the task and the base."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.specs import TrainSpec
from app.jobs.hyperparameters import RunFacts, resolve
from app.jobs.recommended import RECOMMENDED
from app.jobs.training_settings import SETTINGS, TrainingCreate, as_asked
from app.jobs.training_spec import training_spec
from app.jobs.unusual import unusual

AUTO = {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}
CHAT = RunFacts(
    recipe="chat",
    kind="decoder",
    base_parameters=135_000_000,
    context_length=2048,
    train_rows=360,
    choosing_rows=40,
)
ENCODER = replace(CHAT, recipe="text_classification", kind="encoder", base_parameters=22_713_728, context_length=512)
PREFERENCE = replace(CHAT, recipe="preference")
PARENT = {
    "tuning": "adapter",
    "lora": {"variant": "dora", "rank": 4, "alpha": 8.0, "dropout": 0.1, "targets": ["q_proj", "v_proj"]},
}


def chosen(facts=CHAT, *, hyperparameters=None, **training):
    return resolve(hyperparameters or AUTO, as_asked(TrainingCreate.model_validate(training)), facts)


def warnings(facts=CHAT, *, hyperparameters=None, **training):
    return unusual(chosen(facts, hyperparameters=hyperparameters, **training), facts)


@pytest.mark.parametrize(
    ("rows", "batch_size", "n_epochs"),
    [(9, 1, 10), (20, 1, 5), (40, 1, 3), (360, 8, 3), (1000, 16, 3), (9000, 16, 3), (20_000, 16, 2), (80_000, 16, 1)],
)
def test_auto_follows_the_number_of_examples(rows, batch_size, n_epochs):
    resolved = chosen(replace(CHAT, train_rows=rows))
    assert (resolved.batch_size, resolved.n_epochs) == (batch_size, n_epochs)
    assert resolved.learning_rate_multiplier == 1.0


def test_the_demo_s_measured_numbers_stay():
    resolved = chosen(replace(CHAT, train_rows=320))
    assert (resolved.batch_size, resolved.n_epochs, resolved.training["learning_rate"]) == (8, 3, 5e-4)
    assert {name: resolved.training[name] for name in ("adapter", "rank", "alpha", "dropout", "targets")} == {
        "adapter": "lora",
        "rank": 16,
        "alpha": 32.0,
        "dropout": 0.0,
        "targets": "all-linear",
    }


@given(st.integers(1, 200_000))
def test_a_run_has_about_a_hundred_steps_where_five_epochs_can_give_them(rows):
    resolved = chosen(replace(CHAT, train_rows=rows))
    steps = math.ceil(rows / resolved.batch_size) * resolved.n_epochs
    assert steps == resolved.total_steps >= min(100, rows * 5)
    assert 1 <= resolved.n_epochs <= 10
    assert 1 <= resolved.batch_size <= 16


@pytest.mark.parametrize("facts", [replace(CHAT, recipe=recipe, kind=kind) for recipe, kind in RECOMMENDED])
@pytest.mark.parametrize("rows", [1, 9, 100, 5000, 100_000])
def test_whatever_is_left_to_us_has_a_reason_and_is_nothing_unusual(facts, rows):
    facts = replace(facts, train_rows=rows)
    resolved = chosen(facts)
    said = " ".join(resolved.reasons)
    names = {*AUTO, *SETTINGS} - {"learning_rate"}
    assert {name for name in names if f"{name} " not in said} == set()
    assert set(resolved.training) == set(SETTINGS)
    assert "auto" not in resolved.training.values()
    assert unusual(resolved, facts) == []
    assert resolved.n_epochs <= 10


def test_numbers_of_the_user_are_kept_without_comment():
    own = {
        "adapter": "rslora",
        "rank": 8,
        "alpha": 4.0,
        "dropout": 0.1,
        "targets": ["q_proj"],
        "quantization": "nf4",
        "schedule": "cosine",
        "warmup_fraction": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 0.5,
        "max_length": 512,
        "early_stopping": {"patience": 2, "min_delta": 0.01},
        "keeps_best": False,
        "keep_checkpoints": 7,
        "valid_every_steps": 5,
    }
    numbers = {"batch_size": 4, "learning_rate_multiplier": 0.5, "n_epochs": 7}
    resolved = chosen(hyperparameters=numbers, **own)
    assert resolved.on_wire() == numbers
    assert resolved.training == {**own, "learning_rate": 2.5e-4}
    assert resolved.reasons == ()


def test_epochs_follow_a_batch_size_of_the_user():
    assert chosen(hyperparameters={**AUTO, "batch_size": 16}).n_epochs == 5


def test_a_batch_is_never_larger_than_the_data():
    assert chosen(replace(CHAT, train_rows=9), hyperparameters={**AUTO, "batch_size": 64}).batch_size == 9


@pytest.mark.parametrize(
    ("facts", "rate"),
    [
        (CHAT, 5e-4),
        (replace(CHAT, base_parameters=1_500_000_000), 2e-4),
        (replace(CHAT, base_parameters=7_000_000_000), 1e-4),
        (ENCODER, 5e-4),
        (replace(ENCODER, base_parameters=110_000_000), 3e-4),
        (PREFERENCE, 5e-5),
    ],
)
def test_the_rate_follows_recipe_family_and_size(facts, rate):
    assert chosen(facts).training["learning_rate"] == pytest.approx(rate)
    assert chosen(facts, adapter="none").training["learning_rate"] == pytest.approx(rate / 10)


def test_a_rate_in_absolute_numbers_is_shown_as_a_multiplier_too():
    resolved = chosen(learning_rate=1e-3)
    assert resolved.training["learning_rate"] == 1e-3
    assert resolved.learning_rate_multiplier == pytest.approx(2)


def test_the_scale_of_an_adapter_is_the_same_for_each_variant_at_the_usual_rank():
    assert chosen(adapter="dora", rank=64).training["alpha"] == 128
    assert chosen(adapter="rslora").training["alpha"] / math.sqrt(16) == chosen().training["alpha"] / 16
    assert chosen(adapter="rslora", rank=64).training["alpha"] == chosen(adapter="rslora").training["alpha"]


def test_more_examples_get_the_higher_rank():
    assert chosen(replace(CHAT, train_rows=10_001)).training["rank"] == 32


def test_an_adapter_that_is_continued_keeps_its_shape():
    resolved = chosen(replace(CHAT, parent=PARENT))
    assert {name: resolved.training[name] for name in ("adapter", "rank", "alpha", "dropout", "targets")} == {
        "adapter": "dora",
        "rank": 4,
        "alpha": 8.0,
        "dropout": 0.0,
        "targets": ["q_proj", "v_proj"],
    }
    full = chosen(replace(CHAT, parent={"tuning": "full", "lora": PARENT["lora"]}))
    assert full.training["adapter"] == "none"


def test_preference_tuning_is_one_epoch_of_larger_batches_with_the_usual_beta():
    resolved = chosen(PREFERENCE)
    assert (resolved.batch_size, resolved.n_epochs, resolved.beta) == (8, 1, 0.1)
    assert resolved.training["early_stopping"] is False
    assert chosen(PREFERENCE, hyperparameters={**AUTO, "beta": 0.3}).beta == 0.3
    assert chosen().beta is None


@pytest.mark.parametrize(
    ("rows", "epochs", "asked", "stops", "keeps_best"),
    [
        (40, 3, {}, {"patience": 3, "min_delta": 0.0}, True),
        (40, 1, {}, False, True),
        (0, 3, {}, False, False),
        (0, 3, {"early_stopping": {"patience": 1}, "keeps_best": True}, False, False),
        (40, 1, {"early_stopping": {"patience": 1}}, {"patience": 1, "min_delta": 0.0}, True),
        (40, 3, {"early_stopping": False, "keeps_best": False}, False, False),
    ],
)
def test_a_run_stops_early_and_keeps_the_best_where_there_are_rows_to_tell(rows, epochs, asked, stops, keeps_best):
    facts = replace(CHAT, choosing_rows=rows)
    resolved = chosen(facts, hyperparameters={**AUTO, "n_epochs": epochs}, **asked)
    assert (resolved.training["early_stopping"], resolved.training["keeps_best"]) == (stops, keeps_best)


@pytest.mark.parametrize(
    ("hyperparameters", "training", "words"),
    [
        ({}, {"learning_rate": 2.5e-3}, "5 times"),
        ({"learning_rate_multiplier": 0.1}, {}, "0.1 times"),
        ({}, {"rank": 300}, "rank 300"),
        ({}, {"rank": 64, "alpha": 16}, "scales the adapter by 0.25"),
        ({}, {"adapter": "rslora", "rank": 64, "alpha": 128}, "scales the adapter by 16"),
        ({"batch_size": 64}, {}, "batch_size 64"),
        ({"n_epochs": 1, "batch_size": 8}, {}, "One epoch of 45"),
        ({"n_epochs": 11}, {}, "by heart"),
        ({}, {"adapter": "dora", "dropout": 0.1}, "dropout 0.1 with dora"),
        ({}, {"max_length": 256}, "max_length 256"),
        ({}, {"adapter": "none"}, "about 2.2 GB"),
        ({}, {"targets": ["q_proj", "v_proj"]}, "targets"),
        ({}, {"quantization": "nf4"}, "nf4"),
        ({}, {"warmup_fraction": 0.5}, "warmup_fraction"),
        ({}, {"weight_decay": 0.5}, "weight_decay"),
    ],
)
def test_an_unusual_setting_is_warned_of_once(hyperparameters, training, words):
    (warning,) = warnings(hyperparameters={**AUTO, **hyperparameters}, **training)
    assert words in warning


def test_early_stopping_without_rows_to_tell_is_warned_of():
    (warning,) = warnings(replace(CHAT, choosing_rows=0), early_stopping={"patience": 1})
    assert "early_stopping" in warning


def test_a_beta_far_from_the_usual_is_warned_of():
    (warning,) = warnings(PREFERENCE, hyperparameters={**AUTO, "beta": 1.5})
    assert "beta 1.5" in warning


def whole(spec):
    """The spec with made-up local paths."""
    base = {"id": "b", "path": "/b", "weights_sha256": "0", "context_length": 2048}
    paths = {"run_id": "r", "base": base, "train_rows": "t", "train_rows_sha256": "0", "output_dir": "o"}
    return TrainSpec.model_validate({**spec, **paths})


def test_the_spec_is_a_train_spec_but_for_local_paths():
    spec = whole(training_spec(chosen(), CHAT, seed=3, labels=None, is_multi_label=False))
    assert (spec.batch_size, spec.n_epochs, spec.seed, spec.max_length) == (8, 3, 3, 2048)
    assert (spec.recipe, spec.tuning, spec.keeps_best, spec.keep_checkpoints) == ("chat", "adapter", True, 3)
    assert spec.valid_every_steps == 14
    assert spec.early_stopping.patience == 3
    assert spec.dpo is None


def test_the_spec_says_what_is_trained_and_how():
    facts = replace(ENCODER, choosing_rows=0)
    full = whole(training_spec(chosen(facts, adapter="none"), facts, seed=3, labels=("a", "b"), is_multi_label=True))
    assert (full.tuning, full.labels, full.is_multi_label) == ("full", ("a", "b"), True)
    assert (full.early_stopping, full.keeps_best) == (None, False)
    dora = chosen(PREFERENCE, adapter="dora", rank=8, targets=["q_proj"], quantization="nf4")
    spec = whole(training_spec(dora, PREFERENCE, seed=3, labels=None, is_multi_label=False))
    assert (spec.lora.variant, spec.lora.rank, spec.lora.alpha, spec.lora.targets) == ("dora", 8, 16.0, ("q_proj",))
    assert (spec.quantization, spec.dpo.beta, spec.recipe) == ("nf4", 0.1, "preference")
