"""Inspection and preparation over the real store."""

import hashlib
import json
from pathlib import Path

import pytest

from app.contracts.errors import WorkerFailure
from app.contracts.rows import ChatRow, row_adapter
from app.datasets.source import SourceFile
from tests.support.job_world import LABELS, JobWorld, chat_rows


@pytest.fixture
def world(services):
    return JobWorld(services)


def source(world, content, filename="rows.jsonl"):
    file_id = world.add_file(content, filename=filename)
    with world.services() as s:
        file = s.files.get(world.team.team_id, file_id)
        return SourceFile(file.id, file.filename, file.bytes, file.sha256, file.artifact_key)


def rows_of(path):
    return [ChatRow.model_validate_json(line) for line in Path(path).read_bytes().splitlines()]


def test_prepared_rows_are_canonical_and_split_as_inspected(world, tmp_path):
    file = source(world, chat_rows(40))
    with world.services() as s:
        report = s.datasets.inspect(file, None)
        prepared = s.datasets.prepare(file, None, tmp_path)
    train, heldout = rows_of(prepared.train_path), rows_of(prepared.heldout_path)
    assert (len(train), len(heldout)) == (36, 4)
    assert (report.split.train_rows, report.split.heldout_rows) == (36, 4)
    assert sorted(row.line for row in train + heldout) == list(range(1, 41))
    assert prepared.labels == report.labels == LABELS
    assert prepared.train_sha256 == hashlib.sha256(Path(prepared.train_path).read_bytes()).hexdigest()
    assert not list(tmp_path.glob("*.raw"))


def test_preparing_twice_gives_the_same_bytes(world, tmp_path):
    file = source(world, chat_rows(40))
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    with world.services() as s:
        first, second = (s.datasets.prepare(file, None, folder) for folder in folders)
    assert (first.train_sha256, first.heldout_sha256) == (second.train_sha256, second.heldout_sha256)


def test_a_validation_file_is_held_out_whole(world, tmp_path):
    training, validation = source(world, chat_rows(12)), source(world, chat_rows(3, start=50))
    with world.services() as s:
        prepared = s.datasets.prepare(training, validation, tmp_path)
    assert (prepared.train_rows, prepared.heldout_rows) == (12, 3)
    assert [row.messages[0].content for row in rows_of(prepared.heldout_path)] == [
        f"question {n}" for n in (50, 51, 52)
    ]


def test_prompt_and_completion_files_are_marked_as_such(world, tmp_path):
    content = "\n".join(json.dumps({"prompt": f"p{n}", "completion": f"c{n}"}) for n in range(12)).encode()
    with world.services() as s:
        prepared = s.datasets.prepare(source(world, content), None, tmp_path)
    assert prepared.is_completion
    assert all(row.is_completion for row in rows_of(prepared.train_path))


def test_files_of_two_formats_do_not_go_together(world):
    completion = b'{"prompt": "a", "completion": "b"}'
    with world.services() as s:
        report = s.datasets.inspect(source(world, chat_rows(12)), source(world, completion))
    assert report.error.code == "invalid_validation_file"
    assert "Use one format for both." in report.error.message


def test_a_faulty_file_cannot_be_prepared(world, tmp_path):
    with world.services() as s, pytest.raises(WorkerFailure) as caught:
        s.datasets.prepare(source(world, chat_rows(12) + b"\n{}"), None, tmp_path)
    assert (caught.value.error.kind, caught.value.error.code) == ("usage", "invalid_training_file")


def test_many_faults_are_all_counted_and_some_listed(world):
    with world.services() as s:
        report = s.datasets.inspect(source(world, b"{}\n" * 300), None)
    assert (report.training.fault_count, len(report.training.faults)) == (300, 100)
    assert report.training.fault_counts == {"missing_messages_list": 300}


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_bytes_that_are_gone_or_changed_are_a_passing_fault_of_ours(world, context, tmp_path, damage):
    file = source(world, chat_rows(12))
    context.artifacts.delete(file.artifact_key)
    if damage == "changed":
        writer = context.artifacts.open_writer(file.artifact_key)
        writer.write(chat_rows(13))
        writer.commit()
    for attempt in (
        lambda s: s.datasets.inspect(file, None),
        lambda s: s.datasets.prepare(file, None, tmp_path),
    ):
        with world.services() as s, pytest.raises(WorkerFailure) as caught:
            attempt(s)
        assert caught.value.error.kind == "transient"


def test_repeated_rows_and_shared_prompts_are_warned_of(world):
    row = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    with world.services() as s:
        report = s.datasets.inspect(source(world, "\n".join([row] * 20).encode()), None)
    assert report.error is None
    assert report.split.method == "row_hash"
    assert len(report.warnings) == 2


def labelled_csv(count):
    return ("text,label\n" + "".join(f'"text, {n}",{"abc"[n % 3]}\n' for n in range(count))).encode()


def test_three_sides_are_written_as_rows_of_one_kind(world, tmp_path):
    file = source(world, labelled_csv(200), "rows.csv")
    with world.services() as s:
        report = s.datasets.inspect(file, None)
        prepared = s.datasets.prepare(file, None, tmp_path)
    sides = [prepared.train_path, prepared.selection_path, prepared.heldout_path]
    written = [[row_adapter.validate_json(line) for line in Path(path).read_bytes().splitlines()] for path in sides]
    assert [len(rows) for rows in written] == [162, 18, 20]
    assert (prepared.train_rows, prepared.selection_rows, prepared.heldout_rows) == (162, 18, 20)
    assert (report.split.train_rows, report.split.selection_rows, report.split.heldout_rows) == (162, 18, 20)
    assert sorted(row.line for rows in written for row in rows) == list(range(2, 202))
    assert {row.kind for rows in written for row in rows} == {"text_classification"}
    assert (prepared.recipe, prepared.labels, prepared.is_multi_label) == (report.recipe, ("a", "b", "c"), False)
    assert prepared.selection_sha256 == hashlib.sha256(Path(prepared.selection_path).read_bytes()).hexdigest()


def test_selection_rows_come_from_the_training_file_beside_a_validation_file(world, tmp_path):
    training, validation = source(world, labelled_csv(200), "t.csv"), source(world, labelled_csv(30), "v.csv")
    with world.services() as s:
        prepared = s.datasets.prepare(training, validation, tmp_path)
    assert (prepared.train_rows, prepared.selection_rows, prepared.heldout_rows) == (180, 20, 30)


def test_a_job_that_selects_nothing_trains_on_all_that_is_not_held_out(world, tmp_path):
    file = source(world, labelled_csv(200), "rows.csv")
    with world.services() as s:
        report = s.datasets.inspect(file, None, wants_selection=False)
        prepared = s.datasets.prepare(file, None, tmp_path, wants_selection=False)
    assert (prepared.train_rows, prepared.selection_rows, prepared.heldout_rows) == (180, 0, 20)
    assert (report.split.train_rows, report.split.selection_rows) == (180, 0)
    assert (prepared.selection_path, prepared.selection_sha256) == (None, None)
    assert not (tmp_path / "selection.jsonl").exists()


def test_the_same_rows_in_another_syntax_are_split_in_the_same_way(world, tmp_path):
    lines = [json.dumps({"text": f"text, {n}", "label": "abc"[n % 3]}) for n in range(200)]
    files = [source(world, labelled_csv(200), "rows.csv"), source(world, "\n".join(lines).encode())]
    texts = []
    for number, file in enumerate(files):
        folder = tmp_path / str(number)
        folder.mkdir()
        with world.services() as s:
            prepared = s.datasets.prepare(file, None, folder)
        heldout = Path(prepared.heldout_path).read_bytes().splitlines()
        texts.append([row_adapter.validate_json(line).text for line in heldout])
    assert texts[0] == texts[1]


def test_the_task_and_the_method_decide_what_is_taken(world, tmp_path):
    file = source(world, labelled_csv(20), "rows.csv")
    with world.services() as s:
        assert s.datasets.inspect(file, None, task="text-classification").error is None
        assert s.datasets.inspect(file, None, task="chat").error.code == "invalid_training_file"
        assert "provided method=dpo" in s.datasets.inspect(file, None, method="dpo").error.message
        with pytest.raises(WorkerFailure, match="'summarization'"):
            s.datasets.prepare(file, None, tmp_path, task="summarization")


def test_a_table_without_its_columns_is_a_fault_of_the_file_not_of_the_store(world):
    with world.services() as s:
        report = s.datasets.inspect(source(world, b"a,b\n" + b"x,y\n" * 20, "rows.csv"), None)
    assert report.error.code == "invalid_training_file"
    assert "The first line must name the columns. Found: a, b." in report.error.message
