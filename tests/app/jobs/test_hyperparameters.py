"""`auto` becomes numbers that suit the data."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.specs import TrainSpec
from app.jobs.hyperparameters import learning_rate, resolve, training_spec

AUTO = {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}


@pytest.mark.parametrize(
    ("rows", "batch_size", "n_epochs"),
    [(9, 1, 10), (20, 1, 5), (40, 1, 3), (360, 8, 3), (1000, 16, 3), (9000, 16, 3), (20_000, 16, 2), (80_000, 16, 1)],
)
def test_auto_follows_the_number_of_examples(rows, batch_size, n_epochs):
    resolved = resolve(AUTO, train_rows=rows)
    assert (resolved.batch_size, resolved.n_epochs) == (batch_size, n_epochs)
    assert resolved.learning_rate_multiplier == 1.0
    assert len(resolved.reasons) == 3


@given(st.integers(1, 200_000))
def test_a_run_has_about_a_hundred_steps_where_five_epochs_can_give_them(rows):
    resolved = resolve(AUTO, train_rows=rows)
    steps = math.ceil(rows / resolved.batch_size) * resolved.n_epochs
    assert steps >= min(100, rows * 5)
    assert 1 <= resolved.n_epochs <= 10
    assert 1 <= resolved.batch_size <= 16


def test_numbers_of_the_user_are_kept_without_comment():
    resolved = resolve({"batch_size": 4, "learning_rate_multiplier": 0.5, "n_epochs": 7}, train_rows=100)
    assert resolved.on_wire() == {"batch_size": 4, "learning_rate_multiplier": 0.5, "n_epochs": 7}
    assert resolved.reasons == ()


def test_epochs_follow_a_batch_size_of_the_user():
    assert resolve({**AUTO, "batch_size": 16}, train_rows=360).n_epochs == 5


def test_a_batch_is_never_larger_than_the_data():
    assert resolve({**AUTO, "batch_size": 64}, train_rows=9).batch_size == 9


def test_larger_bases_get_the_lower_rate():
    assert learning_rate(1.0, base_parameters=135_000_000) == 5e-4
    assert learning_rate(1.0, base_parameters=1_500_000_000) == 2e-4
    assert learning_rate(2.0, base_parameters=7_000_000_000) == 2e-4


def test_the_spec_is_a_train_spec_but_for_local_paths():
    spec = training_spec(resolve(AUTO, train_rows=360), train_rows=360, seed=3, base_parameters=1, context_length=2048)
    base = {"id": "b", "path": "/b", "weights_sha256": "0", "context_length": 2048}
    paths = {"run_id": "r", "base": base, "train_rows": "t", "train_rows_sha256": "0", "output_dir": "o"}
    whole = TrainSpec.model_validate({**spec, **paths})
    assert (whole.batch_size, whole.n_epochs, whole.seed, whole.max_length) == (8, 3, 3, 2048)
    assert whole.valid_every_steps == 14
