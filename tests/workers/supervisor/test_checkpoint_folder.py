import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from workers.supervisor import checkpoint_folder
from workers.supervisor.checkpoint_folder import CheckpointDamaged


def write_checkpoint(parent: Path, step: int, epoch_ends: tuple[int, ...] = (), **more: object) -> Path:
    folder = parent / f"step-{step:06d}"
    (folder / "adapter").mkdir(parents=True)
    files = {
        "adapter/adapter_model.safetensors": f"weights {step}".encode(),
        "state.json": json.dumps(
            {"step": step, "epoch_end_steps": list(epoch_ends), "trained_tokens": 10 * step, "last_metric": None} | more
        ).encode(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = {
        "version": 1,
        "step": step,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_newest_whole_checkpoint_is_found_by_number(tmp_path: Path) -> None:
    for step in (2, 10, 1_000_000):
        write_checkpoint(tmp_path, step)
    assert checkpoint_folder.newest(tmp_path) == tmp_path / "step-1000000"


@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    good = write_checkpoint(tmp_path, 2)
    path = write_checkpoint(tmp_path, 4) / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "truncated" else bytes([data[0] ^ 1]) + data[1:])
    assert checkpoint_folder.newest(tmp_path) == good


def test_no_bit_of_a_manifest_can_be_changed_unnoticed(tmp_path: Path) -> None:
    manifest = write_checkpoint(tmp_path, 2) / "manifest.json"
    data = manifest.read_bytes()
    for at in range(8 * len(data)):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        manifest.write_bytes(changed)
        assert checkpoint_folder.newest(tmp_path) is None, bytes(changed)
    manifest.write_bytes(data)
    assert checkpoint_folder.newest(tmp_path) is not None


def test_a_file_the_manifest_does_not_name_makes_a_checkpoint_damaged(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 2)
    (folder / "extra.pkl").write_bytes(b"?")
    with pytest.raises(CheckpointDamaged):
        checkpoint_folder.verify(folder)


def test_a_manifest_other_than_the_reported_one_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 2)
    checkpoint_folder.verify(folder, manifest_sha256=checkpoint_folder.sha256_of(folder / "manifest.json"))
    with pytest.raises(CheckpointDamaged):
        checkpoint_folder.verify(folder, manifest_sha256="0" * 64)


def test_packing_is_deterministic_and_unpacking_gives_the_same_folder(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "a", 6)
    checkpoint_folder.pack(folder, tmp_path / "1.tar")
    (folder / "state.json").touch()
    checkpoint_folder.pack(folder, tmp_path / "2.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    unpacked = checkpoint_folder.unpack(tmp_path / "1.tar", tmp_path / "b")
    assert unpacked == tmp_path / "b" / "step-000006"
    checkpoint_folder.verify(unpacked)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["step-000006"]


def test_an_archive_that_leads_outside_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("evil")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(tmp_path / "evil", "../outside")
    with pytest.raises(CheckpointDamaged):
        checkpoint_folder.unpack(tmp_path / "evil.tar", tmp_path / "b")
    assert not (tmp_path / "outside").exists()


def test_epoch_ends_beside_a_resumed_step_are_found_in_their_order(tmp_path: Path) -> None:
    for step in (5, 10, 12):
        write_checkpoint(tmp_path, step, epoch_ends=(5, 10))
    found = checkpoint_folder.epoch_ends(tmp_path / "step-000012")
    assert [checkpoint_folder.step_of(folder) for folder in found] == [5, 10]


def test_a_lost_report_is_made_again_from_the_folder(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 5, epoch_ends=(5,))
    report = checkpoint_folder.describe(folder, "run", is_final=False)
    assert (report.step, report.is_epoch_end, report.trained_tokens) == (5, True, 50)
    assert report.manifest_sha256 == checkpoint_folder.sha256_of(folder / "manifest.json")


@pytest.mark.parametrize("is_pending", [True, False])
def test_an_epochs_checkpoint_that_waits_for_its_validation_is_not_its_final_one(
    *, tmp_path: Path, is_pending: bool
) -> None:
    first = write_checkpoint(tmp_path, 4, (4,))
    resume = write_checkpoint(tmp_path, 8, (4, 8), is_validation_pending=is_pending)
    assert checkpoint_folder.epoch_ends(resume) == ([first] if is_pending else [first, resume])
