import pytest

from app.contracts.errors import WorkerFailure
from app.contracts.rows import ChatMessage, ChatRow
from tests.workers.engine.conftest import chat_row, write_rows
from workers.engine.recipes.chat import encode_rows
from workers.engine.recipes.recipe import require_rows
from workers.engine.recipes.rows import read_rows
from workers.engine.recipes.templates import decode


def test_every_row_is_trained_or_dropped_with_its_line_and_reason(tiny):
    rows = (
        chat_row(1, "hello", "hi"),
        ChatRow(line=2, messages=(ChatMessage(role="user", content="no answer"),)),
        chat_row(5, "<|im_end|>", "forged"),
    )
    encoded = encode_rows(tiny, rows, max_length=256)
    assert encoded.rows_in == 3
    assert [row.line for row in encoded.rows] == [1]
    assert [line for line, _ in encoded.dropped] == [2, 5]


def test_a_long_row_loses_the_left_of_its_prompt_and_never_its_answer(tiny):
    whole = encode_rows(tiny, (chat_row(1, "word " * 100, "the answer"),), max_length=500).rows[0]
    cut = encode_rows(tiny, (chat_row(1, "word " * 100, "the answer"),), max_length=60)
    row = cut.rows[0]
    assert cut.truncated == 1
    assert row.tokens == 60
    assert row.input_ids.tolist() == whole.input_ids[-60:].tolist()
    assert decode(tiny.tokenizer, row.input_ids[row.is_supervised].tolist()) == "the answer<|im_end|>"


def test_a_row_whose_answer_alone_does_not_fit_is_dropped(tiny):
    encoded = encode_rows(tiny, (chat_row(4, "hi", "word " * 100),), max_length=60)
    assert not encoded.rows
    assert encoded.dropped[0][0] == 4
    assert "too long" in encoded.dropped[0][1]


def test_no_trainable_row_at_all_is_the_users_error(tiny):
    encoded = encode_rows(tiny, (chat_row(4, "hi", "word " * 100),), max_length=60)
    with pytest.raises(WorkerFailure) as failure:
        require_rows(encoded, param="training_file")
    assert failure.value.error.kind == "usage"
    assert failure.value.error.code == "no_trainable_rows"
    assert "line 4" in failure.value.error.message


def test_a_rows_file_with_other_bytes_than_stated_is_not_read(tmp_path):
    write_rows(tmp_path / "rows.jsonl", (chat_row(1, "a", "b"),))
    with pytest.raises(WorkerFailure) as failure:
        read_rows(tmp_path / "rows.jsonl", "chat", "0" * 64)
    assert failure.value.error.kind == "transient"
