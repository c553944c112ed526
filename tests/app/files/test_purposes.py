"""What a purpose asks of a file, in the words that clients know."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.files.purposes import FIRST_LINE_BYTES, FirstLine, Purpose, checked_expiry, checked_purpose, lifetime


def check(data: bytes, size: int = 7) -> None:
    line = FirstLine()
    for start in range(0, len(data), size):
        line.feed(data[start : start + size])
    line.check()


def test_a_json_object_on_the_first_line_that_is_not_blank_passes():
    check(b'{"messages": []}\nnonsense')
    check(b'\n \r\n\n{"prompt": "x"}')
    check(b'{"messages": []}')


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{\n  "messages": []\n}', 'Line 1 is not a dictionary (HINT: line starts with: "{...").'),
        (b'{"prompt": "a", }\n', 'Line 1 is not a dictionary (HINT: line starts with: "{"pr...").'),
        (b"[1]\n", 'Line 1 is not a dictionary (HINT: line starts with: "[1]...").'),
        (b"\n\nhello\n", 'Line 3 is not a dictionary (HINT: line starts with: "hell...").'),
        (b"\xef\xbb\xbf{}", 'Line 1 is not a dictionary (HINT: line starts with: "\ufeff{}...").'),
        (b"\xff\xfe{\x00}\x00", "Line 1 is not a dictionary"),
        (b"\x80\x04\x95", "Line 1 is not a dictionary"),
        (b"", "Line 1 is not a dictionary (HINT: the file is empty)."),
        (b"\n\n", "(HINT: the file is empty)."),
        (b"[" * 100_000, "Line 1 is not a dictionary"),
        (b"[" + b"1," * FIRST_LINE_BYTES, "Line 1 is not a dictionary"),
    ],
)
def test_another_first_line_is_refused_in_openais_words(data, message):
    with pytest.raises(InvalidInput) as caught:
        check(data, 4096)
    assert caught.value.message.startswith(
        "Expected file to have JSONL format, where every line is a JSON dictionary. Line"
    )
    assert message in caught.value.message
    assert (caught.value.param, caught.value.code) == (None, None)


def test_a_first_line_beyond_the_limit_is_judged_by_its_beginning():
    check(b'{"a": "' + b"x" * (2 * FIRST_LINE_BYTES), 65_536)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_how_the_bytes_are_cut_makes_no_difference(data, size):
    def outcome(size):
        try:
            check(data, size)
        except InvalidInput as error:
            return error.message
        return None

    assert outcome(size) == outcome(len(data) + 1)


@given(st.dictionaries(st.text(), st.integers(), max_size=3))
def test_any_object_in_utf8_passes(value):
    check(json.dumps(value, ensure_ascii=True).encode() + b"\n")


def test_purposes_are_openais():
    assert checked_purpose("fine-tune") is Purpose.FINE_TUNE
    for text in (None, "", "fine-tune-results", "x\x00"):
        with pytest.raises(InvalidInput, match="'fine-tune'"):
            checked_purpose(text)


def test_batch_files_live_thirty_days_and_others_until_deleted():
    assert lifetime(Purpose.FINE_TUNE, None) is None
    assert lifetime(Purpose.BATCH, None).days == 30
    assert lifetime(Purpose.FINE_TUNE, 3600).total_seconds() == 3600
    for seconds in (3599, 2_592_001):
        with pytest.raises(InvalidInput):
            lifetime(Purpose.FINE_TUNE, seconds)


def test_the_form_fields_of_expiry_come_together():
    assert checked_expiry({}) is None
    assert checked_expiry({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}) == 3600
    for fields in (
        {"expires_after[anchor]": "created_at"},
        {"expires_after[seconds]": "3600"},
        {"expires_after[anchor]": "last_used", "expires_after[seconds]": "3600"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1e4"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 5000},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "٣٦٠٠"},
    ):
        with pytest.raises(InvalidInput):
            checked_expiry(fields)
