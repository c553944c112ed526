"""Figures of chat answers."""

import random

import pytest

from workers.engine.evaluation.metrics.answers import (
    conduct,
    contains,
    exact_match,
    label_match,
    regex_match,
    schema_valid,
    valid_json,
)
from workers.engine.evaluation.repetition import is_loop

SENTENCES = (
    "The refund was sent to your card on Monday.",
    "Please restart the router and wait for two minutes before you try again.",
    "no",
    "Yes, of course! ",
    "1234 ",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002",
    "I am sorry, I cannot help with that, but my colleague from the billing team can.",
)


def hits(metric):
    return metric.parts.ravel().tolist()


def test_texts_match_in_the_case_that_was_asked_for():
    expected, answers = ["Refund", "Refund", "ok"], [" Refund\n", "refund", "it is ok"]
    assert hits(exact_match(expected, answers)) == [1, 0, 0]
    assert hits(exact_match(expected, answers, ignores_case=True)) == [1, 1, 0]
    assert hits(contains(expected, answers)) == [1, 0, 1]
    assert exact_match(expected, answers).signature != exact_match(expected, answers, ignores_case=True).signature


def test_a_pattern_matches_anywhere_and_a_wrong_one_is_named():
    assert hits(regex_match(r"\d{3}-\d+", ["call 555-1234", "call me"])) == [1, 0]
    with pytest.raises(ValueError, match="'\\(' is not a regular expression"):
        regex_match("(", ["a"])


def test_a_pattern_that_never_ends_is_a_miss_within_seconds():
    assert hits(regex_match(r"(?:a|aa|a?)+(?:a|aa)+\d\Z", ["a" * 60 + "!"])) == [0]


def test_json_is_held_against_its_schema():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answers = ['{"n": 1}', '{"n": "1"}', "{}", "n = 1"]
    assert hits(schema_valid(schema, answers)) == [1, 0, 0, 0]
    assert hits(valid_json(answers)) == [1, 1, 1, 0]


def test_a_wrong_schema_and_a_reference_to_elsewhere_are_refused_and_nothing_is_fetched(monkeypatch):
    fetched: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", fetched.append)
    with pytest.raises(ValueError, match=r"wrong at \$\.type"):
        schema_valid({"type": "objekt"}, ["{}"])
    with pytest.raises(ValueError, match=r"refers to 'http://127\.0\.0\.1:9/schema'"):
        schema_valid({"$ref": "http://127.0.0.1:9/schema"}, ["{}"])
    assert fetched == []


def test_labels_match_without_case_and_final_punctuation():
    assert hits(label_match(["Refund", "login"], ["refund.", "refund"], ["refund", "Login"])) == [1, 0]


def test_conduct_counts_ends_loops_and_silence():
    found = {m.name: m for m in conduct(["fine.", " ", "again and again " * 9], [True, True, False], max_new_tokens=64)}
    assert {name: metric.value for name, metric in found.items()} == pytest.approx(
        {"stop_rate": 2 / 3, "loop_rate": 1 / 3, "empty_rate": 1 / 3}
    )
    assert found["stop_rate"].higher_is_better
    assert not found["loop_rate"].higher_is_better
    with pytest.raises(ValueError, match="1 answers and 2 ends"):
        conduct(["a"], [True, False], max_new_tokens=1)


def test_planted_loops_are_found_and_plain_texts_are_not():
    draw = random.Random(0)  # noqa: S311 not a secret
    found = false = 0
    words = [f"w{number}" for number in range(400)]
    for _ in range(500):
        prose = " ".join(draw.choices(words, k=draw.randrange(5, 80)))
        piece = draw.choice(SENTENCES) if draw.random() < 0.5 else " ".join(draw.choices(words, k=draw.randrange(1, 9)))
        # As cut off by a limit: whole pieces, then a part of one.
        loop = f"{piece} " * max(5, 30 // len(piece) + 1) + piece[: draw.randrange(len(piece))]
        found += is_loop(f"{prose} {loop}")
        false += is_loop(prose)
    assert found / 500 >= 0.99
    assert false / 500 <= 0.01


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no, no, no, no",
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n" + "-" * 80,
        "1. Open the app. 2. Open the menu. 3. Open the settings. 4. Open the page.",
        "Row, row, row your boat, gently down the stream.",
    ],
)
def test_speech_and_layout_are_no_loops(text):
    assert not is_loop(text)


def test_a_sentence_three_times_in_a_row_is_a_loop():
    assert is_loop("Please restart the router and wait a little. " * 3)
    assert not is_loop("Please restart the router and wait a little. " * 2)
