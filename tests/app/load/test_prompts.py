"""Prompts come from rows of any kind, or from lines of text."""

import json

import pytest

from app.load.prompts import PromptsError, read_prompts


def user(text):
    return {"role": "user", "content": text}


def test_rows_are_asked_without_their_answers(tmp_path):
    rows = [
        {"messages": [user("a"), {"role": "assistant", "content": "b", "weight": 0}, user("c"), {"role": "assistant"}]},
        {"prompt": "p", "completion": "q"},
        {"text": "t", "label": "l"},
        {"source": "s", "target": "t"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    first, *others = read_prompts(path)
    assert first == [user("a"), {"role": "assistant", "content": "b"}, user("c")]
    assert others == [[user("p")], [user("t")], [user("s")]]


def test_lines_of_text_are_user_messages(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("Hello\n\n  And you? \n")
    assert read_prompts(path) == [[user("Hello")], [user("And you?")]]


@pytest.mark.parametrize("line", ["{", "3", '{"messages": []}', '{"messages": [{"role": "assistant"}]}', '{"text": 3}'])
def test_a_row_that_asks_nothing_is_named_by_its_line(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(PromptsError, match=r"rows\.jsonl, line 2 should be"):
        read_prompts(path)


def test_a_file_without_prompts_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(PromptsError, match="no line to ask"):
        read_prompts(tmp_path / "empty.txt")
    with pytest.raises(PromptsError, match="cannot be read"):
        read_prompts(tmp_path / "absent.txt")
