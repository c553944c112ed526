"""Inspection and preparation over the real store."""

import hashlib
import json
from pathlib import Path

import pytest

from app.contracts.errors import WorkerFailure
from app.contracts.rows import ChatRow
from app.datasets.source import SourceFile
from tests.support.job_world import LABELS, JobWorld, chat_rows


@pytest.fixture
def world(services):
    return JobWorld(services)


def source(world, content):
    file_id = world.add_file(content)
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
