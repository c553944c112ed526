import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from app.contracts.errors import WorkerFailure
from app.contracts.previews import PreviewSpec
from app.contracts.rows import ChatMessage, ChatRow, LabelledText, PreferenceRow, Span, TaggedText, TextPair
from tests.support.tiny_models import END, build_tiny_base
from tests.support.tiny_seq2seq import build_seq2seq_base
from tests.workers.engine.conftest import chat_row
from workers.engine.previews.rows import preview
from workers.engine.recipes.chat import encode_rows
from workers.engine.text_side import TextSide, load_text_side

CONVERSATION = ChatRow(
    line=3,
    messages=(
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Hello"),
        ChatMessage(role="assistant", content="Hi.", weight=0),
        ChatMessage(role="user", content="And now?"),
        ChatMessage(role="assistant", content="Two\nlines, and Ünïcode 😀"),
        ChatMessage(role="user", content="Bye"),
        ChatMessage(role="assistant", content="Bye."),
    ),
)


@pytest.fixture(scope="module")
def side(tiny_ref):
    return load_text_side(tiny_ref)


@pytest.fixture(scope="module")
def encoder_side(tiny_ref):
    """A WordPiece tokenizer with [CLS] and [SEP], as BERT's."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "anna", "lives", "in", "new", "york", "par", "##is", ".", "and"]
    backend = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )
    return TextSide(tiny_ref, "encoder", BertConfig(), tokenizer, ())


def shown(side, *rows, max_length=512, **fields):
    return preview(side, PreviewSpec(base=side.ref, rows=rows, max_length=max_length, **fields))


def text(part, *, learned=None):
    return "".join(s.text for s in part.segments if learned is None or s.is_trained == learned)


def test_what_is_shown_is_what_is_trained(side, tiny):
    rows = (CONVERSATION, chat_row(5, "ticket " * 40, "delivery"))
    trained = encode_rows(tiny, rows, max_length=200).rows
    found = shown(side, *rows, max_length=200)
    for row, encoded in zip(found.rows, trained, strict=True):
        segments = row.parts[0].segments
        assert [token for s in segments for token in s.token_ids] == encoded.input_ids.tolist()
        assert [s.is_trained for s in segments for _ in s.token_ids] == encoded.is_supervised.tolist()
        assert (row.tokens, row.trained_tokens) == (encoded.tokens, encoded.supervised_tokens)
        assert row.is_truncated == encoded.is_truncated
    assert found.totals.tokens == sum(row.tokens for row in trained)
    assert found.totals.trained_tokens == sum(row.supervised_tokens for row in trained)


def test_learned_are_the_answers_with_their_stop_token_and_no_turn_of_weight_0(side):
    part = shown(side, CONVERSATION).rows[0].parts[0]
    assert text(part, learned=True) == f"Two\nlines, and Ünïcode 😀{END}Bye.{END}"
    assert f"Hi.{END}" in text(part, learned=False)
    assert [s.is_control for s in part.segments if s.text == END] == [True] * 7


def test_each_turn_ends_with_its_stop_token_and_the_line_end_behind_it(side):
    part = shown(side, CONVERSATION).rows[0].parts[0]
    turns = ["".join(s.text for s in part.segments if s.turn == turn) for turn in range(part.segments[-1].turn + 1)]
    assert len(turns) == 7
    assert turns[1] == f"<|im_start|>user\nHello{END}\n"
    assert turns[6] == f"<|im_start|>assistant\nBye.{END}"


def test_a_completion_is_learned_after_its_bare_prompt(side):
    messages = (ChatMessage(role="user", content="2 + 2 ="), ChatMessage(role="assistant", content=" 4"))
    part = shown(side, ChatRow(line=1, messages=messages, is_completion=True)).rows[0].parts[0]
    assert [(s.text, s.is_trained) for s in part.segments] == [("2 + 2 =", False), (" 4", True), (END, True)]


def test_a_row_that_is_too_long_says_how_much_of_its_beginning_is_cut(side):
    whole = shown(side, chat_row(1, "word " * 100, "yes")).rows[0]
    row = shown(side, chat_row(1, "word " * 100, "yes"), max_length=60).rows[0]
    assert row.is_truncated
    assert (row.tokens, row.parts[0].cut_tokens, row.parts[0].cut_side) == (60, whole.tokens - 60, "left")
    assert text(row.parts[0], learned=True) == f"yes{END}"


def test_a_row_that_would_be_dropped_stands_in_its_place_with_the_reason(side):
    found = shown(side, chat_row(1, "a", "b"), chat_row(2, "hi", "word " * 100), chat_row(4, END, "no"), max_length=60)
    assert [row.line for row in found.rows] == [1, 2, 4]
    assert [row.parts == () for row in found.rows] == [False, True, True]
    assert found.rows[0].dropped is None
    assert "too long" in found.rows[1].dropped
    assert "control token" in found.rows[2].dropped
    assert (found.totals.rows, found.totals.dropped_rows) == (3, 2)


def test_the_limit_is_the_context_where_more_is_asked_for(side):
    assert shown(side, chat_row(1, "a", "b"), max_length=10**6).max_length == side.ref.context_length


def test_a_text_is_shown_as_it_is_read_beside_its_label(encoder_side):
    rows = (LabelledText(line=1, text="Anna lives in Paris ☃.", labels=("home",)),)
    found = shown(encoder_side, *rows, recipe="text_classification", labels=("home", "work"))
    part = found.rows[0].parts[0]
    assert text(part) == "[CLS]Anna lives in Paris [UNK].[SEP]"
    assert text(part, learned=True) == ""
    assert found.rows[0].labels == ("home",)
    assert (part.tokens, part.trained_tokens) == (9, 1)


def test_a_text_that_is_too_long_loses_its_end(encoder_side):
    rows = (LabelledText(line=1, text="anna lives in new york and in paris", labels=("home",)),)
    found = shown(encoder_side, *rows, recipe="text_classification", labels=("home",), max_length=6)
    part = found.rows[0].parts[0]
    assert text(part) == "[CLS]anna lives in new[SEP]"
    assert (part.cut_tokens, part.cut_side, found.totals.truncated_rows) == (5, "right", 1)


def test_a_text_with_a_label_too_many_is_dropped_unless_texts_may_have_several(encoder_side):
    rows = (LabelledText(line=1, text="paris", labels=("home", "work")),)
    fields = {"recipe": "text_classification", "labels": ("home", "work")}
    assert "2 labels" in shown(encoder_side, *rows, **fields).rows[0].dropped
    assert shown(encoder_side, *rows, is_multi_label=True, **fields).rows[0].labels == ("home", "work")


def test_entities_are_marked_word_by_word_with_their_labels(encoder_side):
    words = "Anna lives in New York and Paris."
    spans = (
        Span(start=0, end=4, label="PER"),
        Span(start=14, end=22, label="LOC"),
        Span(start=27, end=32, label="LOC"),
    )
    row = TaggedText(line=1, text=words, spans=spans)
    part = shown(encoder_side, row, recipe="token_classification", labels=("LOC", "PER")).rows[0].parts[0]
    assert [(s.text.strip(), s.label) for s in part.segments] == [
        ("[CLS]", None),
        ("Anna", "PER"),
        ("lives in", "O"),
        ("New York", "LOC"),
        ("and", "O"),
        ("Paris", "LOC"),
        (".", "O"),
        ("[SEP]", None),
    ]
    assert text(part) == f"[CLS]{words}[SEP]"
    assert part.trained_tokens == 8  # words


def test_of_a_preference_both_answers_are_learned_after_the_same_prompt(side):
    def answer(text):
        return ChatMessage(role="assistant", content=text)

    row = PreferenceRow(
        line=2,
        messages=(ChatMessage(role="user", content="word " * 40),),
        preferred=answer("Thank you."),
        non_preferred=answer("What do you want?"),
    )
    found = shown(side, row, recipe="preference", max_length=60).rows[0]
    preferred, other = found.parts
    assert [part.name for part in found.parts] == ["preferred", "non_preferred"]
    assert text(preferred, learned=True) == f"Thank you.{END}"
    assert text(other, learned=True) == f"What do you want?{END}"
    assert text(preferred, learned=False) == text(other, learned=False)
    assert found.trained_tokens == preferred.trained_tokens + other.trained_tokens
    assert preferred.cut_tokens == other.cut_tokens > 0
    same = row.model_copy(update={"non_preferred": row.preferred})
    assert "both answers are the same" in shown(side, same, recipe="preference").rows[0].dropped


def test_of_a_summary_on_a_decoder_the_end_of_the_source_is_left_out(side):
    row = TextPair(line=1, source="First things first. " + "word " * 60 + "Last.", target="Things.")
    found = shown(side, row, recipe="summarization", max_length=70).rows[0]
    (part,) = found.parts
    assert (part.cut_side, part.cut_tokens > 0, part.tokens) == ("middle", True, 70)
    assert text(part, learned=True) == f"Things.{END}"
    assert "First things first." in text(part)
    assert "Last." not in text(part)


def test_of_a_summary_on_an_encoder_decoder_all_of_the_target_is_learned(tmp_path):
    side = load_text_side(build_seq2seq_base(tmp_path / "t5", "t5", context_length=32))
    row = TextPair(line=1, source="First things first. " * 20, target="Things.")
    found = shown(side, row, recipe="summarization").rows[0]
    source, target = found.parts
    assert (source.name, target.name) == ("source", "target")
    assert (source.tokens, source.trained_tokens, source.cut_side) == (32, 0, "right")
    assert source.cut_tokens > 0
    assert text(source).startswith("First things first.")
    assert text(target, learned=True) == "Things.</s>"
    assert (found.tokens, found.trained_tokens) == (source.tokens + target.tokens, target.tokens)


def test_a_base_that_cannot_be_trained_so_is_refused(side):
    row = TaggedText(line=1, text="Paris", spans=())
    with pytest.raises(WorkerFailure) as failure:
        shown(side, row, recipe="token_classification", labels=("LOC",))
    assert (failure.value.error.code, failure.value.error.param) == ("unsupported_task", "model")


@pytest.mark.parametrize("has_generation_config", [True, False])
def test_answers_end_as_they_do_for_the_loaded_model(tmp_path, has_generation_config):
    import torch  # noqa: PLC0415

    from workers.engine.base_model import load_base  # noqa: PLC0415

    ref = build_tiny_base(tmp_path / "base")
    file = tmp_path / "base" / "generation_config.json"
    if has_generation_config:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [1, 2]}))
    else:
        file.unlink()
        config = tmp_path / "base" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": 1}))
    found = load_text_side(ref).stop_token_ids
    assert found == load_base(ref, torch.device("cpu")).stop_token_ids == (1, 2)


def test_a_folder_without_a_tokenizer_is_the_users_to_mend(tmp_path, tiny_ref):
    with pytest.raises(WorkerFailure) as failure:
        load_text_side(tiny_ref.model_copy(update={"path": str(tmp_path)}))
    assert (failure.value.error.kind, failure.value.error.code) == ("usage", "invalid_base")
