"""What is learned is the assistant's text and its stop token, and the prompt before it is what a server computes on."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.errors import WorkerFailure
from app.contracts.rows import ChatMessage, ChatRow
from tests.invariants.chat_bases import conversation, learned_text, load_format_base, served_prompt, wanted_text
from tests.support.chat_formats import FORMATS, GPT2_SPLITS, MISTRAL_V3, ChatFormat
from tests.support.tiny_models import CHAT_TEMPLATE, END, build_tiny_tokenizer
from tests.workers.engine.conftest import chat_row, train_spec
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.questions import make_questions
from workers.engine.recipes.templates import RowRefusedError, encode_row, render_completion_prompt
from workers.engine.training.loop import train

BY_NAME = {chat_format.name: chat_format for chat_format in FORMATS}
# Answers that a search for them in the template's own words would find too early, and white space at both ends.
ANSWERS = (
    "Hi.",
    " Two\nlines, and Ünïcode 😀",
    "\nBye.\n",
    "\n\n- a list",
    "  code:\n\n\tindented  ",
    "think",
    "t",
    "/think",
    "assistant",
    "user",
    "model",
    "1",
    '{"a": [1, "b"]}',
    "日本語",
)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ResidentBase]:
    return {f.name: load_format_base(f, tmp_path_factory.mktemp("formats") / f.name) for f in FORMATS}


@pytest.fixture(params=FORMATS, ids=lambda chat_format: chat_format.name)
def chat_format(request: pytest.FixtureRequest) -> ChatFormat:
    return request.param


@pytest.fixture
def base(bases: dict[str, ResidentBase], chat_format: ChatFormat) -> ResidentBase:
    return bases[chat_format.name]


def comparable(chat_format: ChatFormat, text: str) -> str:
    """SentencePiece's decoder drops a space it cannot tell from the one it put before the first word."""
    return text.replace(" ", "") if chat_format.is_sentencepiece else text


@pytest.mark.parametrize("learns", [None, (2,), (0, 2)], ids=["all", "last", "first and last"])
def test_of_a_conversation_exactly_the_answers_with_weight_and_their_stop_tokens_are_learned(base, chat_format, learns):
    row = conversation(chat_format, "Hello", "Hi.", "And now?", "Two\nlines", "Bye", "Bye then.", learns=learns)
    learned, wanted = learned_text(base, row), wanted_text(chat_format, row)
    assert comparable(chat_format, learned) == comparable(chat_format, wanted)
    assert learned.count(chat_format.turn_end) == (3 if learns is None else len(learns))


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_of_any_shape_is_learned_exactly(base, chat_format, answer):
    row = conversation(chat_format, "Question?", answer)
    learned, wanted = learned_text(base, row), wanted_text(chat_format, row)
    assert comparable(chat_format, learned) == comparable(chat_format, wanted)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(name=st.sampled_from(sorted(BY_NAME)), user=TEXT, answer=TEXT.filter(lambda text: bool(text.strip())))
def test_any_text_is_learned_exactly_and_after_the_prompt_that_is_served(bases, name, user, answer):
    row = conversation(BY_NAME[name], user, answer)
    encoded = encode_row(bases[name].tokenizer, row, bases[name].stop_token_ids)
    prompt = served_prompt(bases[name], row)
    assert tuple(encoded.input_ids[: len(prompt)].tolist()) == prompt
    assert not encoded.is_supervised[: len(prompt)].any()
    assert encoded.is_supervised[len(prompt) :].all()
    learned, wanted = learned_text(bases[name], row), wanted_text(BY_NAME[name], row)
    assert comparable(BY_NAME[name], learned) == comparable(BY_NAME[name], wanted)


def test_the_stop_token_of_an_answer_is_learned_although_it_is_the_pad_token_too(base, chat_format):
    row = conversation(chat_format, "Hello", "Hi.", "Bye", "Bye then.")
    encoded = encode_row(base.tokenizer, row, base.stop_token_ids)
    is_end = encoded.input_ids == base.tokenizer.convert_tokens_to_ids(chat_format.turn_end)
    assert (is_end & encoded.is_supervised).sum() == 2
    assert encoded.is_supervised[-1]
    assert is_end[-1]


def test_the_token_that_ends_a_learned_answer_ends_a_served_one(base, chat_format):
    encoded = encode_row(base.tokenizer, conversation(chat_format, "Hello", "Hi."), base.stop_token_ids)
    assert encoded.input_ids[-1] in base.stop_token_ids
    assert base.model.generation_config.eos_token_id in base.stop_token_ids


def test_training_evaluation_and_serving_start_from_the_same_prompt(base, chat_format):
    for texts in (("Hello there", "Hi."), ("Hello", "Hi.", "And now?", "Two\nlines", "Bye", "Bye then.")):
        row = conversation(chat_format, *texts)
        encoded = encode_row(base.tokenizer, row, base.stop_token_ids)
        (question,) = make_questions([row], [encoded])
        served = served_prompt(base, row)
        assert question.prompt_ids == served
        assert tuple(encoded.input_ids[: len(served)].tolist()) == served


def test_a_row_has_one_bos_in_training_evaluation_and_serving_or_none_where_the_family_has_none(base, chat_format):
    row = conversation(chat_format, "Hello", "Hi.")
    encoded = encode_row(base.tokenizer, row, base.stop_token_ids)
    completion = render_completion_prompt(base.tokenizer, "Hello")
    has_bos = chat_format.bos is not None and "bos_token" in chat_format.template
    for prompt in (encoded.input_ids[~encoded.is_supervised].tolist(), list(served_prompt(base, row))):
        assert prompt.count(base.tokenizer.bos_token_id) == has_bos
        assert (prompt[0] == base.tokenizer.bos_token_id) == has_bos
    assert completion.count(base.tokenizer.bos_token_id) == chat_format.tokenizer_adds_bos


def test_white_space_that_a_tokenizer_splits_by_what_follows_keeps_the_served_tokens(tmp_path):
    """GPT-2 makes two tokens of a blank line before a word, and one of it at the end of a prompt."""
    chat_format = replace(BY_NAME["llama3"], splits=GPT2_SPLITS)
    base = load_format_base(chat_format, tmp_path)
    row = conversation(chat_format, "Hello", "Hi.")
    prompt = served_prompt(base, row)
    assert base.tokenizer.decode(prompt[-1]) == "\n\n"
    encoded = encode_row(base.tokenizer, row, base.stop_token_ids)
    assert tuple(encoded.input_ids[: len(prompt)].tolist()) == prompt


def test_an_empty_thinking_block_is_context_and_thoughts_that_are_in_the_data_are_learned(bases):
    chat_format, base = BY_NAME["qwen3"], bases["qwen3"]
    plain = conversation(chat_format, "Hello", "Hi.")
    encoded = encode_row(base.tokenizer, plain, base.stop_token_ids)
    before = base.tokenizer.decode(encoded.input_ids[~encoded.is_supervised])
    assert before.endswith("<|im_start|>assistant\n" + chat_format.preamble)
    assert learned_text(base, plain) == "Hi.<|im_end|>"
    thoughts = "<think>\nA greeting.\n</think>\n\nHi."
    assert learned_text(base, conversation(chat_format, "Hello", thoughts)) == thoughts + "<|im_end|>"


def test_a_preamble_before_a_tool_call_is_not_learned():
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE.replace(
        "message['content'] + '<|im_end|>\n'",
        "('<think>\n\n</think>\n\n' if message['role'] == 'assistant' else '') + message['content'] + "
        "((message['tool_calls'][0]['function'] | tojson) if message['tool_calls'] else '') + '<|im_end|>\n'",
    )
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Rome"}'}}
    row = ChatRow(
        line=1,
        messages=(ChatMessage(role="user", content="weather?"), ChatMessage(role="assistant", tool_calls=(call,))),
    )
    encoded = encode_row(tokenizer, row, (2,))
    learned = tokenizer.decode(encoded.input_ids[encoded.is_supervised])
    assert learned == '{"name": "look_up", "arguments": {"city": "Rome"}}' + END


CHANGES_EARLIER_TURNS = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'].split('</think>')[-1] + eos_token }}{% else %}"
    "{{ '<|User|>' + message['content'] + '<|Assistant|>' }}{% if loop.last %}{{ '<think>\n' }}{% endif %}{% endif %}"
    "{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}", "without a stop token"),
        ("{% for m in messages %}{{ m['role'] }}{{ eos_token }}{% endfor %}", "do not decode to the answer"),
        ("{{ eos_token }}", "without a stop token"),
        (CHANGES_EARLIER_TURNS, "changes earlier turns"),
        (MISTRAL_V3, "changes earlier turns"),
        ("{{ raise_exception('no such luck') }}", "no such luck"),
        (None, "no chat template"),
    ],
    ids=["no stop token", "no content", "nothing", "strips thoughts", "moves the system message", "raises", "none"],
)
def test_a_template_whose_answers_cannot_be_told_apart_is_refused_with_its_reason(template, reason):
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = template
    row = ChatRow(
        line=1, messages=(ChatMessage(role="system", content="Be brief."), *chat_row(1, "Hello", "Hi.").messages)
    )
    with pytest.raises(RowRefusedError, match=reason):
        encode_row(tokenizer, row, (tokenizer.eos_token_id,))


def test_a_run_in_which_nothing_would_be_learned_is_refused(tiny, tmp_path):
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    reports: list[object] = []
    with pytest.raises(WorkerFailure) as failure:
        train(replace(tiny, tokenizer=tokenizer), train_spec(tiny.ref, tmp_path), reports.append, lambda: None)
    assert failure.value.error.code == "no_trainable_rows"
    assert "without a stop token" in failure.value.error.message
    assert not (tmp_path / "out").exists()
