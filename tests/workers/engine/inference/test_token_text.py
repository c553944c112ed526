import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from tests.support.tiny_models import build_tiny_tokenizer
from workers.engine.inference.answer_text import AnswerText
from workers.engine.inference.token_text import TokenText, Utf8Stream

TEXT = "Grüße 🙂 “naïve” 日本語 <|im_end|> a\tb\n"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tiny_tokenizer()


def test_bytes_of_byte_level_tokens_join_to_the_text(tokenizer):
    tokens = TokenText(tokenizer)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert b"".join(tokens.bytes_of(i, show_special=True) for i in ids).decode() == TEXT
    assert b"".join(tokens.bytes_of(i) for i in ids).decode() == TEXT.replace("<|im_end|>", "")


def test_bytes_of_sentencepiece_tokens_join_to_the_text():
    pieces = ["<unk>", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "▁Hello", "▁wor", "ld"]
    backend = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokens = TokenText(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    assert b"".join(tokens.bytes_of(i) for i in (5, 6, 7, 1, 2, 3, 4)).decode() == " Hello world🙂"


def test_no_half_character_is_ever_released(tokenizer):
    tokens = TokenText(tokenizer)
    ids = tokenizer("a🙂é", add_special_tokens=False)["input_ids"]
    answer = AnswerText(tokens, ())
    released = [answer.push(i, None) for i in ids]
    assert [part.text for part in released] == ["a", "", "", "", "🙂", "", "é"]
    assert sum((part.token_ids for part in (*released, answer.finish())), ()) == tuple(ids)


def test_a_character_without_its_end_is_left_out(tokenizer):
    ids = tokenizer("a🙂", add_special_tokens=False)["input_ids"][:-1]
    answer = AnswerText(TokenText(tokenizer), ())
    assert "".join(answer.push(i, None).text for i in ids) + answer.finish().text == "a"


def test_bytes_that_are_no_utf8_become_the_replacement_character():
    assert Utf8Stream().push(b"\xff\xfea") == "\ufffd\ufffda"


@pytest.mark.parametrize(
    ("text", "stops", "kept"),
    [
        ("one END two", ("END",), "one "),
        ("one EN two", ("END",), "one EN two"),
        ("one EN", ("END",), "one EN"),
        ("aaab", ("aab",), "a"),
        ("x\n\ny", ("\n\n", "y"), "x"),
        ("stop", ("stop",), ""),
        ("naïve🙂!", ("🙂",), "naïve"),
        ("abcd", ("bcd", "abc"), ""),
    ],
)
def test_text_is_held_back_until_it_cannot_begin_a_stop_string(tokenizer, text, stops, kept):
    answer = AnswerText(TokenText(tokenizer), stops)
    released = ""
    for token_id in tokenizer(text, add_special_tokens=False)["input_ids"]:
        released += answer.push(token_id, None).text
        assert kept.startswith(released)
        if answer.is_stopped:
            break
    else:
        released += answer.finish().text
    assert released == kept
    assert answer.is_stopped == any(stop in text for stop in stops)
