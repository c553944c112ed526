"""What a report says of data that can be used, and why others cannot."""

import json

import pytest

from app.datasets.reading import Wanted, read_file
from app.datasets.source import SourceFile
from app.datasets.tasks import Task
from app.datasets.validation import MAX_CLASSES, assess


def finding(rows, *, task=None, method="supervised"):
    data = "\n".join(json.dumps(row) for row in rows).encode()
    source = SourceFile("file-x", "rows.jsonl", len(data), "0" * 64, "key")
    return read_file(source, iter([data]), Wanted(None if task is None else Task(task), method))


def report(training, validation=None, **wanted):
    return assess(finding(training, **wanted), None if validation is None else finding(validation, **wanted)).report


def labelled(count, labels=("a", "b"), start=0):
    return [{"text": f"text {n}", "label": labels[n % len(labels)]} for n in range(start, start + count)]


def only_warning(found):
    (warning,) = found.warnings
    return warning


def test_clean_data_earn_no_warning_and_full_figures():
    found = report(labelled(200))
    assert (found.recipe, found.labels, found.is_multi_label, found.warnings) == (
        "text_classification",
        ("a", "b"),
        False,
        (),
    )
    assert (found.split.train_rows, found.split.selection_rows, found.split.heldout_rows) == (162, 18, 20)
    assert found.label_counts == {"a": 81, "b": 81}


def test_several_labels_or_none_in_any_row_make_the_data_multi_label():
    rows = labelled(20)
    assert report([*rows, {"text": "x", "labels": []}]).is_multi_label
    assert report([*rows, {"text": "x", "labels": ["a", "b"]}]).is_multi_label
    assert report(rows, [{"text": "x", "labels": ["a", "b"]}]).is_multi_label
    assert not report([{"text": row["text"], "labels": [row["label"]]} for row in rows]).is_multi_label


def test_the_labels_of_entities_are_their_types_without_o():
    rows = [{"tokens": [f"t{n}", "x"], "tags": ["B-Y" if n % 2 else "O", "B-X"]} for n in range(20)]
    found = report(rows)
    assert (found.recipe, found.labels, found.is_multi_label) == ("token_classification", ("X", "Y"), False)


def test_a_label_that_only_the_held_out_rows_have_is_kept_and_warned_of():
    found = report(labelled(20), [{"text": "x", "label": "c"}])
    assert (found.labels, found.label_counts["c"]) == (("a", "b", "c"), 0)
    assert only_warning(found) == "1 label(s) occur only among the held-out examples and cannot be learned: 'c'."


def test_a_label_of_a_single_training_row_is_warned_of():
    assert only_warning(report([*labelled(20), {"text": "x", "label": "z"}])) == (
        "1 label(s) have fewer than 2 training examples: 'z'."
    )


def test_spellings_of_one_label_are_named():
    warning = only_warning(report(labelled(40, ("Card", "card", "card ", "login"))))
    assert warning == "Labels that differ only in case or spaces are learned as different ones: 'Card', 'card'."


def test_labels_out_of_balance_are_named_with_their_numbers():
    rows = [*labelled(300, ("a",)), *labelled(10, ("b",), start=300)]
    assert "'a' has 243 training examples, 'b' has 8" in only_warning(report(rows))


def test_texts_with_different_labels_are_counted_and_named_by_their_lines():
    rows = [*labelled(30), {"text": "Text 0!", "label": "b"}, {"text": "text 1", "label": "a"}]
    assert only_warning(report(rows)).endswith("lines 1 ('a') and 31 ('b'), lines 2 ('b') and 32 ('a').")


def test_leaks_are_counted_to_the_letter_and_beyond():
    found = report(labelled(20), [{"text": "text 1", "label": "b"}, {"text": "Text 2.", "label": "a"}])
    assert (found.split.leaked_rows, found.split.leaked_rows_normalized) == (1, 2)
    assert only_warning(found).startswith("2 of 2 validation examples have a prompt of the training file (1 word for")


def test_columns_that_are_not_used_are_named_once_for_each_file():
    rows = [{**row, "id": 1, "note": "x"} for row in labelled(20)]
    assert report(rows, [{"text": "x", "label": "a", "n": 1}]).warnings == (
        "Columns of the training file that are not used: 'id', 'note'.",
        "Columns of the validation file that are not used: 'n'.",
    )


def test_targets_longer_than_their_sources_are_counted():
    rows = [{"source": f"s{n}", "target": "a longer text" if n < 3 else "x"} for n in range(20)]
    assert only_warning(report(rows)) == "3 of 20 training examples have a target longer than its source."


def test_pairs_with_equal_answers_are_counted():
    def pair(number, other):
        answers = [[{"role": "assistant", "content": text}] for text in ("yes", other)]
        return {
            "input": {"messages": [{"role": "user", "content": f"q{number}"}]},
            "preferred_output": answers[0],
            "non_preferred_output": answers[1],
        }

    found = report([pair(n, "yes" if n < 2 else "no") for n in range(20)], method="dpo")
    assert (found.recipe, found.labels) == ("preference", None)
    assert only_warning(found).startswith("2 of 20 training examples have the same answer as preferred and as")


def test_data_of_which_nothing_can_be_held_out_are_trained_on_whole():
    found = report([{"text": f"t{n}", "label": f"l{n}"} for n in range(20)])
    assert (found.split.train_rows, found.split.heldout_rows) == (20, 0)
    assert any("give a validation_file" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (labelled(20, ("a",)), "have the same label ('a'): a classifier needs two kinds."),
        ([{"text": f"t{n}", "labels": []} for n in range(20)], "No example of the training file has any label"),
        ([{"text": f"t{n}", "spans": []} for n in range(20)], "No example of the training file has any entity"),
        ([{"text": f"t{n}", "label": n} for n in range(MAX_CLASSES + 1)], "1,001 different labels; at most 1,000"),
    ],
)
def test_data_that_leave_a_classifier_nothing_to_learn_are_refused(rows, words):
    found = report(rows)
    assert (found.error.code, found.error.param, found.split) == ("invalid_training_file", "training_file", None)
    assert words in found.error.message


def test_another_task_is_refused_with_what_the_file_holds_and_what_is_wanted():
    chat = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}] * 12
    error = report(chat, task="text-classification").error
    assert error.message == (
        "Input file file-x holds chat rows, but the job's task is 'text-classification', which needs a text (text, "
        "sentence, utterance, content, question) with its label (label, labels, category, intent, class, target). "
        "Give such a file, or the task 'chat'."
    )
    error = report(labelled(12), task="chat").error
    assert error.message == (
        "Input file file-x holds text-classification rows, but the job's task is 'chat', which needs messages, or "
        "prompt with completion. Give such a file, or the task 'text-classification'."
    )


def test_the_method_refuses_other_rows_in_openais_words():
    chat = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}] * 12
    assert report(chat, method="dpo").error.message == (
        "Input file file-x is in the fine-tune-chat format, but the specified fine-tuning job is not using "
        "'supervised' as the training method (provided method=dpo)."
    )
    assert report([{"preferred_output": []}]).error.message == (
        "Input file file-x is in the fine-tune-preference format, but the specified fine-tuning job is not using "
        "'dpo' as the training method (provided method=supervised)."
    )
