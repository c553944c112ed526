"""Every row that comes in is trained on or named with its reason; nothing is cut or left out in silence."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from app.contracts.errors import WorkerFailure
from app.contracts.rows import ChatMessage, ChatRow, LabelledText, Span, TaggedText, TextPair
from tests.invariants.recipe_runs import CHAT, MULTI, SUMMARIES, TEXT, TOKENS, Run, encode, make_spec, run
from tests.workers.engine.conftest import chat_row, ticket_rows
from workers.engine.recipes.chat import encode_rows
from workers.engine.recipes.templates import decode
from workers.engine.training.loop import train

LIMIT = 60
SHORT = chat_row(1, "Hello", "Hi.")
LONG_PROMPT = chat_row(2, "first words " + "my parcel is late. " * 20 + "last words", "the answer")
LONG_ANSWER = chat_row(3, "Hello", "my parcel is late. " * 20)
NO_ANSWER = ChatRow(line=4, messages=(ChatMessage(role="user", content="Hello"),))
ALL_MASKED = ChatRow(
    line=5, messages=(ChatMessage(role="user", content="a"), ChatMessage(role="assistant", content="b", weight=0))
)
FORGED = chat_row(6, "<|im_end|>", "Hi.")


def test_rows_in_are_rows_trained_and_rows_named(tiny, tmp_path):
    rows = (SHORT, LONG_PROMPT, LONG_ANSWER, NO_ANSWER, ALL_MASKED, FORGED)
    encoded = run(tiny, make_spec(CHAT, tiny, tmp_path, rows=rows, max_length=LIMIT)).encoded
    assert (encoded.rows_in, encoded.rows_trained, encoded.truncated) == (6, 2, 1)
    assert [line for line, _ in encoded.dropped] == [3, 4, 5, 6]
    reasons = dict(encoded.dropped)
    assert "too long" in reasons[3]
    assert "no assistant message to learn from" in reasons[4]
    assert "no assistant message to learn from" in reasons[5]
    assert "control token" in reasons[6]
    assert encoded.longest <= LIMIT


@pytest.mark.parametrize(
    ("job", "rows", "reasons", "longest"),
    [
        (
            TEXT,
            (
                LabelledText(line=1, text="a", labels=("billing",)),
                LabelledText(line=2, text="b", labels=("unheard of",)),
                LabelledText(line=3, text="c", labels=("billing", "repair")),
                LabelledText(line=4, text="d", labels=()),
                LabelledText(line=5, text="late " * 300, labels=("repair",)),
            ),
            {2: "unheard of", 3: "2 labels", 4: "0 labels"},
            LIMIT,
        ),
        (
            MULTI,
            (
                LabelledText(line=1, text="a", labels=()),
                LabelledText(line=2, text="b", labels=("unheard of", "billing")),
                LabelledText(line=3, text="late " * 300, labels=("billing", "repair")),
            ),
            {2: "unheard of"},
            LIMIT,
        ),
        (
            TOKENS,
            (
                TaggedText(line=1, text="billing", spans=(Span(start=0, end=7, label="QUEUE"),)),
                TaggedText(line=2, text="billing", spans=(Span(start=0, end=7, label="OTHER"),)),
                TaggedText(line=3, text="  ", spans=()),
                TaggedText(line=4, text="late " * 300, spans=()),
            ),
            {2: "OTHER", 3: "no word"},
            LIMIT,
        ),
        (
            SUMMARIES,
            (
                TextPair(line=1, source="a", target="b"),
                TextPair(line=2, source="a", target=""),
                TextPair(line=3, source="a", target="late " * 300),
                TextPair(line=4, source="late " * 300, target="b"),
            ),
            {2: "empty", 3: "too long"},
            LIMIT + 2,
        ),
    ],
    ids=["text", "texts with many labels", "tokens", "summaries"],
)
def test_rows_of_other_recipes_are_trained_or_named_and_cut_ones_are_counted(  # noqa: PLR0917 pytest passes by name
    resident, tmp_path, job, rows, reasons, longest
):
    encoded = run(resident, make_spec(job, resident, tmp_path, rows=rows, max_length=LIMIT)).encoded
    assert encoded.rows_in == len(rows) == encoded.rows_trained + len(encoded.dropped)
    assert [line for line, _ in encoded.dropped] == list(reasons)
    assert all(reasons[line] in said for line, said in encoded.dropped)
    assert (encoded.truncated, encoded.longest) == (1, longest)


def test_a_long_prompt_is_cut_on_its_left_and_the_answer_with_its_stop_token_stays_whole(tiny):
    (row,) = encode_rows(tiny, (LONG_PROMPT,), max_length=LIMIT).rows
    assert (row.tokens, row.is_truncated) == (LIMIT, True)
    assert decode(tiny.tokenizer, row.input_ids[row.is_supervised].tolist()) == "the answer<|im_end|>"
    before = decode(tiny.tokenizer, row.input_ids[~row.is_supervised].tolist())
    assert "first words" not in before
    assert before.endswith("last words<|im_end|>\n<|im_start|>assistant\n")


def test_of_a_long_conversation_the_oldest_turns_go_first_and_no_answer_is_cut(tiny):
    turns = [ChatMessage(role="user", content="my parcel is late. " * 10)]
    for place in range(3):
        turns += [
            ChatMessage(role="assistant", content=f"answer {place}"),
            ChatMessage(role="user", content="and then?"),
        ]
    rows = encode_rows(tiny, (ChatRow(line=1, messages=tuple(turns)),), max_length=500).rows
    for limit in range(rows[0].tokens - 1, 20, -7):
        cut = encode_rows(tiny, (ChatRow(line=1, messages=tuple(turns)),), max_length=limit)
        for row in cut.rows:
            learned = decode(tiny.tokenizer, row.input_ids[row.is_supervised].tolist())
            assert learned == "".join(f"answer {place}<|im_end|>" for place in range(3))
        assert len(cut.rows) + len(cut.dropped) == 1


def test_a_base_with_a_short_context_cuts_to_its_own_length(tiny, tmp_path):
    short = replace(tiny, ref=tiny.ref.model_copy(update={"context_length": LIMIT}))
    encoded = run(short, make_spec(CHAT, short, tmp_path, rows=(SHORT, LONG_PROMPT, LONG_ANSWER))).encoded
    assert (encoded.rows_trained, encoded.truncated, encoded.longest) == (2, 1, LIMIT)


def test_every_row_is_trained_once_an_epoch_whatever_the_last_batch_lacks(job, resident, tmp_path):
    found = run(resident, make_spec(job, resident, tmp_path, rows=11, batch_size=4, n_epochs=2))
    assert [metric.step for metric in found.metrics] == [1, 2, 3, 4, 5, 6]
    for epoch in (found.metrics[:3], found.metrics[3:]):
        assert sum(metric.tokens for metric in epoch) == found.encoded.tokens
    assert found.finished.trained_tokens == 2 * found.encoded.tokens


def test_validation_counts_every_row_once(job, resident, tmp_path):
    """The mean over 3 rows is that of its rows alone, weighted by what each supervises."""
    rows = job.make_rows(3)

    def validate(name, valid):
        spec = make_spec(
            job, resident, tmp_path / name, rows=4, n_epochs=1, valid=valid, optimizer={"learning_rate": 1e-12}
        )
        return run(resident, spec).metrics[-1].full_valid_loss

    _, encoded = encode(job, resident, rows)
    weights = [job.weight(row) for row in encoded]
    alone = [validate(str(place), [row]) for place, row in enumerate(rows)]
    mean = sum(loss * weight for loss, weight in zip(alone, weights, strict=True)) / sum(weights)
    assert validate("all", rows) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("row", [ALL_MASKED, NO_ANSWER, LONG_ANSWER], ids=["all masked", "no answer", "too long"])
def test_a_file_of_rows_that_teach_nothing_is_refused_before_the_first_step(tiny, tmp_path, row):
    found = Run()
    with pytest.raises(WorkerFailure) as failure:
        train(tiny, make_spec(CHAT, tiny, tmp_path, rows=[row], max_length=LIMIT), found.reports.append, lambda: None)
    assert (failure.value.error.kind, failure.value.error.code) == ("usage", "no_trainable_rows")
    assert f"line {row.line}" in failure.value.error.message
    assert not found.metrics


def test_no_micro_batch_is_without_something_to_learn(job, resident):
    recipe, rows = encode(job, resident, job.make_rows(8))
    for budget in (1, 150, 100_000):
        packs = recipe.pack(rows, budget)
        assert all(batch.count > 0 for batch in packs)
        assert sum(batch.count for batch in packs) == sum(job.weight(row) for row in rows)
        assert sorted(row.line for batch in packs for row in batch.rows) == [row.line for row in rows]


@pytest.mark.parametrize("valid", [0, 4], ids=["without validation", "with validation"])
def test_a_run_that_diverges_says_so_and_leaves_no_number_that_is_none(job, resident, tmp_path, valid):
    found = Run()
    spec = make_spec(
        job,
        resident,
        tmp_path,
        rows=8,
        valid=valid,
        n_epochs=1,
        optimizer={"learning_rate": 1e38, "warmup_fraction": 0},
    )
    with pytest.raises(WorkerFailure) as failure:
        train(resident, spec, found.reports.append, lambda: None)
    assert (failure.value.error.kind, failure.value.error.code) == ("usage", "loss_diverged")
    assert all(math.isfinite(metric.train_loss) for metric in found.metrics)
    for file in tmp_path.rglob("*.safetensors"):
        assert all(bool(torch.isfinite(tensor).all()) for tensor in load_file(file).values())


@pytest.mark.parametrize("valid", [0, 4], ids=["without validation", "with validation"])
def test_a_run_that_diverges_in_its_last_step_is_no_success(job, resident, tmp_path, valid):
    spec = make_spec(
        job,
        resident,
        tmp_path,
        rows=4,
        valid=valid,
        n_epochs=1,
        optimizer={"learning_rate": 1e38, "warmup_fraction": 0},
    )
    with pytest.raises(WorkerFailure) as failure:
        run(resident, spec)
    assert (failure.value.error.kind, failure.value.error.code) == ("usage", "loss_diverged")


def test_rows_of_another_kind_than_the_recipes_are_refused_and_nothing_is_made_up(tiny_encoder, tmp_path):
    spec = make_spec(TEXT, tiny_encoder, tmp_path)
    other = make_spec(TOKENS, tiny_encoder, tmp_path / "other")
    wrong = spec.model_copy(update={"train_rows": other.train_rows, "train_rows_sha256": other.train_rows_sha256})
    with pytest.raises(WorkerFailure) as failure:
        run(tiny_encoder, wrong)
    assert failure.value.error.code == "rows_of_another_kind"


def test_what_is_reported_of_the_rows_is_what_was_trained(tiny, tmp_path):
    rows = ticket_rows(9)
    encoded = run(tiny, make_spec(CHAT, tiny, tmp_path, rows=rows)).encoded
    direct = encode_rows(tiny, rows, max_length=256)
    assert (encoded.tokens, encoded.supervised_tokens, encoded.longest) == (
        direct.tokens,
        direct.supervised_tokens,
        direct.longest,
    )
