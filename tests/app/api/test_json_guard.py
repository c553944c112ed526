"""JSON that would break further inside is refused at the door; all other JSON passes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.json_guard import MAX_DEPTH, BadJson, check_json


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a": "\\u0000"}', r"U\+0000"),
        (b'{"\\u0000": 1}', r"U\+0000"),
        (b'{"a": ["x", {"b": "\\ud800"}]}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": -1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"role": "user", "role": "system"}', "same key twice"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "same key twice"),
        (b"[" * 200_000, "nested deeper"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested deeper"),
        (b"\xff", "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'{"a": 1', "line 1, column 8"),
        (b"{'a': 1}", "line 1, column 2"),
        (b'{"a": "raw \x00 nul"}', "line 1"),
        (b"", "line 1"),
    ],
)
def test_hostile_json_is_refused_with_its_reason(body, why):
    with pytest.raises(BadJson, match=why):
        check_json(body)


def test_the_deepest_allowed_nesting_passes():
    check_json(b"[" * MAX_DEPTH + b'"text"' + b"]" * MAX_DEPTH)


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
        | TEXT,
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=20,
    ),
    st.booleans(),
)  # fmt: skip
def test_what_python_writes_without_such_characters_passes(value, ensure_ascii):
    check_json(json.dumps(value, ensure_ascii=ensure_ascii).encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_either_taken_or_refused_never_a_crash(body):
    try:
        check_json(body)
    except BadJson:
        return
    json.loads(body.decode())
