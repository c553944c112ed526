"""A safetensors header is believed only where the file agrees with it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.bases.safetensors_header import MAX_HEADER_BYTES, BadSafetensors, count_parameters

GOOD = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]},
    "b": {"dtype": "F32", "shape": [], "data_offsets": [24, 28]},
    "c": {"dtype": "I64", "shape": [0, 5], "data_offsets": [28, 28]},
}


def write(path, header, data=b"\0" * 28, *, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def test_the_parameters_of_all_tensors_are_counted(tmp_path):
    assert count_parameters(write(tmp_path / "m", GOOD)) == 13


def changed(name, **change):
    return {**GOOD, name: {**GOOD[name], **change}}


@pytest.mark.parametrize(
    ("header", "options"),
    [
        (b"", {"data": b"", "length": 10**18}),
        (GOOD, {"length": MAX_HEADER_BYTES + 1}),
        (GOOD, {"data": b"\0" * 27}),
        (GOOD, {"data": b"\0" * 29}),
        (b"\x80\x04pickle", {}),
        (b"[]", {}),
        (b"{}", {"data": b""}),
        (b"[" * 100_000, {}),
        (changed("a", dtype="PICKLE"), {}),
        (changed("a", dtype=["F32"]), {}),
        (changed("a", shape=[3, 5]), {}),
        (changed("a", shape=[-3, -4]), {}),
        (changed("a", shape=[True, 12]), {}),
        (changed("a", shape=[2**60, 2**60]), {}),
        (changed("b", data_offsets=[20, 24]), {}),
        (changed("b", data_offsets=[28, 24]), {}),
        (changed("b", data_offsets=[24]), {}),
        ({"a": "x"}, {}),
        ({"a": None}, {}),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header, options):
    with pytest.raises(BadSafetensors):
        count_parameters(write(tmp_path / "m", header, **options))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_refused_or_counted_never_a_crash(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("m") / "m"
    path.write_bytes(data)
    try:
        assert count_parameters(path) >= 0
    except BadSafetensors:
        return
