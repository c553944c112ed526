"""Keys as text: unguessable, recognisable, and a typing error is noticed without a database."""

from hypothesis import given
from hypothesis import strategies as st

from app.identity.keys import hint, is_mistyped, key_hash, make_key


def test_a_fresh_key_has_its_shape_and_is_never_the_same():
    first, second = make_key(), make_key()
    assert first.text.startswith("tsk_")
    assert len(first.text) == 4 + 24 + 1 + 43 + 6
    assert first.id == f"key_{first.text[4:28]}"
    assert first.text != second.text
    assert not is_mistyped(first.text)


@given(position=st.integers(4, 77), character=st.sampled_from("0aZ_-é"))
def test_one_wrong_character_is_noticed(position, character):
    text = make_key().text
    wrong = text[:position] + character + text[position + 1 :]
    assert is_mistyped(wrong) == (wrong != text)


@given(st.text(max_size=100))
def test_any_text_can_be_asked_about(text):
    assert isinstance(is_mistyped(text), bool)
    assert not is_mistyped(text) or text.startswith("tsk_")


def test_the_hash_is_a_sha256_and_the_hint_shows_four_characters_at_most():
    text = make_key().text
    assert len(key_hash(text)) == 32
    assert hint(text) == f"…{text[-4:]}"
    assert hint("short") == "…"
