"""Answers as `text_completion`: what loglikelihood harnesses read."""

from app.chat.answers import Answer, Collector
from app.chat.chat_shape import AnswerHead
from app.chat.text_shape import TextChunks, TextForm, text_completion
from app.contracts.generation import PromptScored, TokenDelta, TokenLogprob, TopLogprob
from tests.support.scripted_generator import done, saying

HEAD = AnswerHead("cmpl-1", 1_700_000_000, "tiny", "fp_0123456789_base")


def entry(text, logprob, offset, *alternatives):
    top = tuple(TopLogprob(token=t, token_id=9, bytes=tuple(t.encode()), logprob=p) for t, p in alternatives)
    return TokenLogprob(
        token=text,
        token_id=1,
        bytes=tuple(text.encode()),
        logprob=logprob,
        text_offset=offset,
        top=None if logprob is None else top,
    )


ECHOED = [
    PromptScored(text="To be", logprobs=(entry("To", None, 0), entry(" be", -1.5, 2, (" do", -0.5)))),
    TokenDelta(index=0, text=" or", logprobs=(entry(" or", -0.25, 5, (" or", -0.25)),)),
    TokenDelta(index=0, text="", finish_reason="length"),
    done(),
]


def answer(lines) -> Answer:
    collector = Collector(1)
    for line in lines:
        collector.add(line)
    return collector.answer


def test_echo_scores_the_prompt_and_the_answer_in_one_list():
    wire = text_completion(HEAD, [answer(ECHOED)], TextForm(logprobs=1))
    choice = wire["choices"][0]
    assert choice["text"] == "To be or"
    assert choice["logprobs"] == {
        "tokens": ["To", " be", " or"],
        "token_logprobs": [None, -1.5, -0.25],
        "top_logprobs": [None, {" do": -0.5, " be": -1.5}, {" or": -0.25}],
        "text_offset": [0, 2, 5],
    }


def test_a_bos_before_the_text_is_not_shown():
    prompt = PromptScored(
        text="To be",
        logprobs=(entry("<s>", None, 0), entry("To", -2.0, 0, ("To", -2.0)), entry(" be", -1.5, 2, (" be", -1.5))),
    )
    wire = text_completion(HEAD, [answer([prompt, *ECHOED[1:]])], TextForm(logprobs=0))
    assert wire["choices"][0]["logprobs"]["tokens"] == ["To", " be", " or"]
    assert wire["choices"][0]["logprobs"]["token_logprobs"] == [-2.0, -1.5, -0.25]
    assert wire["choices"][0]["logprobs"]["top_logprobs"] is None


def test_a_prompt_that_starts_with_half_a_character_keeps_its_first_token():
    first = TokenLogprob(token="\ufffd", token_id=1, bytes=(0xC3,), logprob=None, text_offset=0, top=None)
    second = TokenLogprob(token="\ufffd", token_id=2, bytes=(0xA9,), logprob=-1.0, text_offset=0, top=())
    wire = text_completion(
        HEAD, [answer([PromptScored(text="é", logprobs=(first, second)), *ECHOED[1:]])], TextForm(logprobs=0)
    )
    assert len(wire["choices"][0]["logprobs"]["tokens"]) == 3


def test_choices_of_several_prompts_are_numbered_through_and_usage_is_summed():
    wire = text_completion(HEAD, [answer(saying("a")), answer(saying("b"))], TextForm())
    assert [(choice["index"], choice["text"]) for choice in wire["choices"]] == [(0, "a"), (1, "b")]
    assert wire["usage"] == {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}


def test_of_tokens_that_read_the_same_the_likeliest_is_shown():
    line = TokenDelta(index=0, text="?", logprobs=(entry("?", -3.0, 0, ("?", -0.1), ("?", -3.0)),))
    wire = text_completion(HEAD, [answer([line, *ECHOED[2:]])], TextForm(logprobs=2))
    assert wire["choices"][0]["logprobs"]["top_logprobs"] == [{"?": -0.1}]


def test_chunks_join_to_the_whole_answer():
    chunks = TextChunks(HEAD, 0, TextForm(logprobs=1))
    wires = [wire for line in ECHOED[:-1] for wire in chunks.push(line)]
    choices = [wire["choices"][0] for wire in wires]
    assert "".join(choice["text"] for choice in choices) == "To be or"
    assert [token for choice in choices for token in choice["logprobs"]["tokens"]] == ["To", " be", " or"]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "length"]


def test_the_token_that_ended_an_answer_is_listed_but_is_no_text():
    end = TokenDelta(index=0, text="", finish_reason="stop", ending=entry("<|im_end|>", -0.1, 5, ("<|im_end|>", -0.1)))
    wire = text_completion(HEAD, [answer([ECHOED[0], end, done()])], TextForm(logprobs=1))
    assert wire["choices"][0]["text"] == "To be"
    assert wire["choices"][0]["logprobs"]["tokens"] == ["To", " be", "<|im_end|>"]
    assert wire["choices"][0]["logprobs"]["text_offset"] == [0, 2, 5]
    (chunk,) = TextChunks(HEAD, 0, TextForm(logprobs=1)).push(end)
    assert chunk["choices"][0]["logprobs"]["tokens"] == ["<|im_end|>"]
