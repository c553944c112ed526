"""Names of tuned models: OpenAI's form, and never the same twice."""

import pytest

from app.registry.naming import checkpoint_name, is_suffix, is_tuned, model_name


def test_a_name_has_openais_form():
    assert model_name("base", "team", "suf")[:-8] == "ft:base:team:suf:"
    assert model_name("base", "team", None)[:-8] == "ft:base:team::"
    assert checkpoint_name("base", "team", None, 7).endswith(":ckpt-step-7")
    assert len(checkpoint_name("b", "t", None, 7)) == len("ft:b:t::") + 8 + len(":ckpt-step-7")


def test_no_name_is_given_twice():
    assert len({model_name("b", "t", "s") for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my-suffix_1", True),
        ("", False),
        ("a:b", False),
        ("a/b", False),
        ("a b", False),
        ("x" * 65, False),
        ("ä", False),
    ],
)
def test_a_suffix_cannot_break_a_name(text, expected):
    assert is_suffix(text) is expected


def test_tuned_models_are_told_from_bases_by_their_name():
    assert is_tuned(model_name("b", "t", None))
    assert not is_tuned("smollm2-135m-instruct")
