import json
import os
from pathlib import Path

import pytest

from workers.engine.training import checkpoint


def write(parent, step):
    return checkpoint.write(
        parent,
        step=step,
        state={"step": step},
        adapter={"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights %d" % step},
        optimizer=b"moments",
    )


def test_the_latest_checkpoint_is_found_and_verified(tmp_path):
    write(tmp_path, 9)
    written = write(tmp_path, 10)
    found = checkpoint.load_latest(tmp_path)
    assert found is not None
    assert (found.path, found.manifest_sha256, found.state) == (written.path, written.manifest_sha256, {"step": 10})


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, damage):
    write(tmp_path, 1)
    latest = write(tmp_path, 2).path
    weights = latest / "adapter" / "adapter_model.safetensors"
    if damage == "flip":
        weights.write_bytes(b"Weights 2")
    elif damage == "truncate":
        weights.write_bytes(b"wei")
    elif damage == "missing":
        weights.unlink()
    else:
        (latest / "manifest.json").write_text(json.dumps({"version": 1})[:-3])
    for folder in (tmp_path, latest):
        found = checkpoint.load_latest(folder)
        assert found is not None
        assert found.state == {"step": 1}


def test_no_bit_of_a_manifest_can_be_changed_unnoticed(tmp_path):
    manifest = write(tmp_path, 2).path / "manifest.json"
    data = manifest.read_bytes()
    for at in range(8 * len(data)):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        manifest.write_bytes(changed)
        assert checkpoint.load_latest(tmp_path) is None, bytes(changed)
    manifest.write_bytes(data)
    assert checkpoint.load_latest(tmp_path) is not None


def test_all_of_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, named = set(), []
    fsync, rename = os.fsync, Path.rename

    def note(descriptor):
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def check(path, target):
        inside = [path, *path.rglob("*")]
        assert [one.name for one in inside if one.stat().st_ino not in synced] == []
        named.append(len(inside))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", check)
    written = write(tmp_path, 3)
    assert named == [len([written.path, *written.path.rglob("*")])]
    assert tmp_path.stat().st_ino in synced


def test_nothing_is_found_in_an_empty_or_absent_folder(tmp_path):
    assert checkpoint.load_latest(tmp_path) is None
    assert checkpoint.load_latest(tmp_path / "absent") is None


def test_a_checkpoint_of_the_same_step_is_replaced_whole(tmp_path):
    write(tmp_path, 3)
    write(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]


def test_the_last_two_and_the_epoch_ends_are_kept_and_leftovers_of_crashes_go(tmp_path):
    for step in range(1, 7):
        write(tmp_path, step)
    (tmp_path / ".step-000007-abc").mkdir()
    checkpoint.prune(tmp_path, keep_last=2, keep_steps=[2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000005", "step-000006"]
