"""One data folder belongs to one service; what it holds is its owner's alone."""

import os
import stat

import pytest

from app.embedded.data_folder import DataFolder, write_private_json
from app.embedded.errors import EmbeddedError


def test_a_second_service_on_the_same_folder_is_refused_and_the_first_is_named(tmp_path):
    folder = DataFolder(tmp_path / "data")
    folder.create()
    lock = folder.lock()
    with pytest.raises(EmbeddedError, match=f"process {os.getpid()}"):
        folder.lock()
    os.close(lock)
    os.close(folder.lock())


def test_only_the_owner_can_enter_the_folder_and_read_the_key(tmp_path):
    folder = DataFolder(tmp_path / "data")
    folder.create()
    write_private_json(folder.ready_file, {"api_key": "secret"})
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.ready_file.stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.root.iterdir()) == [
        "artifacts",
        "bases",
        "logs",
        "ready.json",
        "run",
        "scratch",
    ]


def test_a_large_log_is_set_aside(tmp_path):
    folder = DataFolder(tmp_path / "data")
    folder.create()
    with (folder.logs / "api.log").open("wb") as log:
        log.truncate(17 * 1024 * 1024)
    assert not folder.log_file("api").exists()
    assert (folder.logs / "api.log.1").exists()
