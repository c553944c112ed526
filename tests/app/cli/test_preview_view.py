"""What a preview looks like: pages to read, made from answers as the service gives them."""

import io
import re

import pytest
from rich.console import Console

from app.cli.preview_text import visible
from app.cli.preview_view import PreviewView


def segment(text, *, learned=False, control=False, turn=0, label=None):
    return {"text": text, "token_ids": [1], "is_trained": learned, "is_control": control, "turn": turn, "label": label}


def part(*segments, name="row", tokens=20, trained=3, cut=0, side="left"):
    return {
        "name": name,
        "tokens": tokens,
        "trained_tokens": trained,
        "cut_tokens": cut,
        "cut_side": side,
        "segments": list(segments),
    }


def row(line, *parts, dropped=None, labels=None, tokens=20, trained=3):
    return {
        "line": line,
        "dropped": dropped,
        "labels": labels,
        "is_truncated": any(part["cut_tokens"] for part in parts),
        "tokens": tokens,
        "trained_tokens": trained,
        "parts": list(parts),
    }


def answer(*rows, kind="chat", faults=(), warnings=()):
    return {
        "base": "smollm2",
        "format": kind,
        "max_length": 2048,
        "file": {
            "rows": 320,
            "faulty_rows": len(faults),
            "fault_counts": {"a_check": len(faults)},
            "is_complete": True,
        },
        "faults": [{"line": 7, "check": "a_check", "message": message} for message in faults],
        "shown": {
            "rows": len(rows),
            "tokens": 1240,
            "trained_tokens": 62,
            "truncated_rows": 1,
            "dropped_rows": 1,
        },
        "rows": list(rows),
        "warnings": list(warnings),
    }


def page(preview, *, width=80, is_plain=True, is_full=False):
    console = Console(
        file=io.StringIO(),
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=not is_plain,
        color_system=None if is_plain else "standard",
        no_color=False,
    )
    PreviewView(console, is_plain=is_plain, is_full=is_full).show(preview, "rows.jsonl")
    return console.file.getvalue()


def body(text):
    """Without the head and the sums."""
    lines = [line.rstrip() for line in text.splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith("── "))
    end = next(place for place, line in enumerate(lines) if line.lstrip().startswith("rows  tokens"))
    return "\n".join(lines[start:end]).rstrip()


CHAT = row(
    1,
    part(
        segment("<|im_start|>", control=True),
        segment("user\nMy parcel never came, and nobody at your hotline wants to tell me where it is now"),
        segment("<|im_end|>", control=True),
        segment("\n"),
        segment("<|im_start|>", control=True, turn=1),
        segment("assistant\n", turn=1),
        segment("delivery\n\nsoon", learned=True, turn=1),
        segment("<|im_end|>", learned=True, control=True, turn=1),
    ),
)

WHOLE_PAGE = """\
rows.jsonl  320 rows, chat
as smollm2 reads it, at most 2048 tokens a row
⟦learned⟧ read, not learned

✗  Example 7 has no message with the role 'assistant' (line 7)

── line 1 ───────────────────────────────────────────── 20 tokens · 3 learned ──
│ <|im_start|>user
│ My parcel never came, and nobody at your hotline wants to tell me where it is
│ now<|im_end|>
├╌╌╌
│ <|im_start|>assistant
┃ ⟦delivery
┃
┃ soon<|im_end|>⟧

── line 4 ─────────────────────────────────────────────────────────── DROPPED ──
  Nothing is learned from this row: too long: 9000 tokens.

            rows  tokens  learned  share  cut  dropped  faulty
shown          2   1,240       62   5.0%    1        1
whole file   320                                             1

!  1 row of the 2 shown would be dropped: nothing is learned from it.
"""


def test_a_page_without_colours():
    preview = answer(
        CHAT,
        row(4, dropped="too long: 9000 tokens"),
        faults=["Example 7 has no message with the role 'assistant' (line 7)"],
        warnings=["1 row of the 2 shown would be dropped: nothing is learned from it."],
    )
    assert "\n".join(line.rstrip() for line in page(preview).split("\n")) == WHOLE_PAGE


def test_with_colours_learned_text_is_green_and_the_rest_is_dim():
    text = page(answer(CHAT), is_plain=False)
    assert "\x1b[1;32mdelivery↵\x1b[0m" in text
    assert re.search(r"\x1b\[1;32m┃ \x1b\[0m\x1b\[1;32msoon", text)
    assert "\x1b[2m│ \x1b[0m\x1b[2;36m<|im_start|>\x1b[0m\x1b[2muser\x1b[0m" in text
    assert "⟦" not in text


def test_what_was_cut_is_said_where_it_is_missing():
    left = row(1, part(segment("the end"), segment("yes", learned=True), cut=7))
    right = row(2, part(segment("the start"), name="text", cut=5, side="right"), labels=["billing", "other"])
    assert body(page(answer(left, right))) == (
        "── line 1 ──────────────────────────────── 20 tokens · 3 learned · 7 LEFT OUT ──\n"
        "│ ✂ 7 tokens do not fit and are left out (the beginning)\n"
        "┃ the end⟦yes⟧\n"
        "\n"
        "── line 2 ──────────────────────────────── 20 tokens · 3 learned · 5 LEFT OUT ──\n"
        "│ the start\n"
        "│ ✂ 5 tokens do not fit and are left out (the end)\n"
        "┃ label ⟦billing, other⟧"
    )


def test_entities_carry_their_labels_and_other_words_no_mark():
    tagged = row(
        1,
        part(
            segment("Anna", learned=True, label="PER"),
            segment(" lives in", learned=True, label="O"),
            segment(" New York", learned=True, label="LOC"),
            segment(".", learned=True, label="O"),
            name="text",
        ),
    )
    assert body(page(answer(tagged, kind="token_classification"))) == (
        "── line 1 ─────────────────────────────────────── 20 tokens · 3 words learned ──\n"
        "┃ ⟦Anna·PER⟧ lives in ⟦New York·LOC⟧."
    )


def test_of_two_answers_the_prompt_is_shown_once():
    prompt = segment("user\nHello\n")
    pair = row(
        1,
        part(prompt, segment("Hi!", learned=True, turn=1), name="preferred", tokens=9, trained=2, cut=4),
        part(prompt, segment("What?", learned=True, turn=1), name="non_preferred", tokens=10, trained=3, cut=4),
    )
    assert body(page(answer(pair, kind="preference"))).splitlines()[1:] == [
        "├─ preferred answer: 9 tokens, 2 learned",
        "│ ✂ 4 tokens do not fit and are left out (the beginning)",
        "│ user",
        "│ Hello",
        "├╌╌╌",
        "┃ ⟦Hi!⟧",
        "├─ answer to turn away from: 10 tokens, 3 learned",
        "│ … after the same prompt",
        "┃ ⟦What?⟧",
    ]


@pytest.mark.parametrize(("learned", "shown", "words"), [(False, 8, "⋮ 92 more lines"), (True, 20, "⋮ 80 more lines")])
def test_long_texts_are_folded_unless_all_is_asked_for(learned, shown, words):
    long = row(1, part(segment("\n".join(f"line {number}" for number in range(100)), learned=learned)))
    folded = body(page(answer(long)))
    assert len(folded.splitlines()) == 1 + shown + 1
    assert words in folded
    assert len(body(page(answer(long), is_full=True)).splitlines()) == 1 + 100


def test_text_of_a_file_cannot_steer_the_terminal():
    assert visible("a\x1b[31mb\u202ec\r\x07\td\n") == "a\\x1b[31mb\\u202ec\\r\\x07    d\n"
    hostile = "\x1b]0;owned\x07"
    preview = answer(row(1, part(segment(hostile, learned=True, label=hostile))), faults=[hostile], warnings=[hostile])
    assert "\x1b" not in page(preview)
    assert hostile not in page(preview, is_plain=False)


@pytest.mark.parametrize("width", [40, 80, 300])
def test_no_line_is_wider_than_the_terminal(width):
    preview = answer(CHAT, row(4, dropped="too long: " + "so many tokens " * 20), warnings=["mend it " * 40])
    widest = max(len(line.rstrip()) for line in page(preview, width=width).splitlines() if "dropped  " not in line)
    assert widest <= min(width, 100)
