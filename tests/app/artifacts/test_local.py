"""What only a local folder can show: temp files, durability, what a crash leaves."""

import os
import time
from pathlib import Path

import pytest

from app.artifacts.local import LocalStore


def test_a_crashed_write_is_swept_after_a_day(tmp_path):
    store = LocalStore(tmp_path)
    writer = store.open_writer("files/a")
    writer.write(b"half")
    writer._file.close()  # as a killed process would: no commit, no abort
    (temp,) = (tmp_path / ".incoming").iterdir()
    LocalStore(tmp_path)
    assert temp.exists()
    yesterday = time.time() - 25 * 3600
    os.utime(temp, (yesterday, yesterday))
    LocalStore(tmp_path)
    assert not temp.exists()


def test_the_object_and_every_new_folder_are_synced_before_commit_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = LocalStore(tmp_path)
    writer = store.open_writer("jobs/1/2/adapter")
    writer.write(b"x")
    writer.commit()
    root = str(tmp_path)
    assert synced[0].startswith(f"{root}/.incoming/")
    assert set(synced[1:]) == {root, f"{root}/jobs", f"{root}/jobs/1", f"{root}/jobs/1/2"}


def test_a_folder_that_cannot_be_written_fails_the_check(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match="cannot be written"):
        store.check()


def test_what_found_no_room_leaves_nothing_behind(tmp_path):
    store = LocalStore(tmp_path)
    writer = store.open_writer("jobs/a")
    writer._file.close()
    writer._file = Path("/dev/full").open("wb")  # noqa: SIM115 - the writer closes it
    writer.write(b"held in memory until it is flushed")
    with pytest.raises(OSError, match="No space left"):
        writer.commit()
    writer.abort()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
