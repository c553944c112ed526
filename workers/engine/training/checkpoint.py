"""Complete checkpoints, written whole or not at all, and verified before they are read.

A checkpoint is a folder `step-000123/`: `adapter/` in PEFT's format, `optimizer.safetensors`,
`state.json` and, written last, `manifest.json` with the SHA-256 of every other file. Where an earlier
step is the best so far, `best/` holds that step's adapter and state. All
randomness (row order, dropout) is a pure function of seed and counters, so the counters in
`state.json` are the whole state of it.
"""

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.engine.training.synced_files import Contents, sync, write_file

MANIFEST = "manifest.json"
_PREFIX = "step-"
_BEST = "best"


class CheckpointDamagedError(Exception):
    """A file is missing or not what the manifest says."""


@dataclass(frozen=True)
class CheckpointFolder:
    """A written, verified checkpoint."""

    path: Path
    manifest_sha256: str
    state: dict[str, Any]

    @property
    def adapter_path(self) -> Path:
        return self.path / "adapter"

    @property
    def optimizer_path(self) -> Path:
        return self.path / "optimizer.safetensors"


def write(
    parent: Path,
    *,
    step: int,
    state: dict[str, Any],
    adapter: Mapping[str, Contents],
    optimizer: Contents,
    best: Path | None = None,
) -> CheckpointFolder:
    """Write `parent/step-<step>` atomically: after a crash at any point it is whole or absent.

    `best` is the checkpoint of an earlier step whose adapter is to travel with this one.
    """
    files: dict[str, Contents] = {f"adapter/{name}": contents for name, contents in adapter.items()}
    files["optimizer.safetensors"] = optimizer
    files["state.json"] = _json_bytes(state)
    if best is not None:
        kept = [best / "state.json", *(best / "adapter").iterdir()]
        files |= {f"{_BEST}/{path.relative_to(best)}": path for path in kept}
    return _write_files(parent, step=step, state=state, files=files)


def step_folder(parent: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return parent / f"{_PREFIX}{step:06d}"


def restore_best(parent: Path, found: CheckpointFolder) -> None:
    """Lay the best step's adapter down beside `found` again, where only `found` came to this machine."""
    source = found.path / _BEST
    if not source.is_dir():
        return
    state: dict[str, Any] = json.loads((source / "state.json").read_bytes())
    if step_folder(parent, state["step"]).is_dir():
        return
    files: dict[str, Contents] = {str(p.relative_to(source)): p for p in source.rglob("*") if p.is_file()}
    _write_files(parent, step=state["step"], state=state, files=files)


def _write_files(parent: Path, *, step: int, state: dict[str, Any], files: dict[str, Contents]) -> CheckpointFolder:
    parent.mkdir(parents=True, exist_ok=True)
    staging = parent / f".{_PREFIX}{step:06d}-{uuid.uuid4().hex}"
    hashes = {}
    for name, contents in sorted(files.items()):
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(staging / name, contents)
        hashes[name] = _sha256(staging / name)
    manifest = _manifest(step, hashes)
    write_file(staging / MANIFEST, manifest)
    for folder in (*(path for path in staging.rglob("*") if path.is_dir()), staging):
        sync(folder)
    target = step_folder(parent, step)
    if target.exists():  # the same step of an earlier attempt: move it away, never leave a mixture
        discarded = parent / f".old-{uuid.uuid4().hex}"
        target.rename(discarded)
        staging.rename(target)
        shutil.rmtree(discarded)
    else:
        staging.rename(target)
    sync(parent)
    return CheckpointFolder(target, hashlib.sha256(manifest).hexdigest(), state)


def _manifest(step: int, hashes: dict[str, str]) -> bytes:
    """One way only to write it, so that a single changed bit shows, in what nobody reads too."""
    return _json_bytes({"version": 1, "step": step, "files": hashes})


def read(path: Path) -> CheckpointFolder:
    """Verify every hash of one checkpoint, and its manifest; `CheckpointDamagedError` says what is wrong."""
    try:
        manifest_bytes = (path / MANIFEST).read_bytes()
        expected: dict[str, str] = json.loads(manifest_bytes)["files"]
        for name, digest in expected.items():
            if _sha256(path / name) != digest:
                raise CheckpointDamagedError(f"{path.name}/{name} does not have the hash its manifest states")
        state: dict[str, Any] = json.loads((path / "state.json").read_bytes())
        if manifest_bytes != _manifest(state["step"], expected):
            raise CheckpointDamagedError(f"{path.name}/{MANIFEST} is not as it was written")
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointDamagedError(f"{path.name}: {error}") from error
    return CheckpointFolder(path, hashlib.sha256(manifest_bytes).hexdigest(), state)


def load_latest(folder: Path) -> CheckpointFolder | None:
    """The newest good checkpoint: of `folder` itself if it is one, else of the checkpoints in it.

    A damaged one is passed over for the one before it (also when `folder` names the damaged one), and so is
    one without an optimiser's state, laid down by `restore_best`.
    """
    if folder.name.startswith(_PREFIX):
        candidates = [path for path in _checkpoints(folder.parent) if path.name <= folder.name]
    else:
        candidates = list(_checkpoints(folder))
    for path in sorted(candidates, reverse=True):
        with contextlib.suppress(CheckpointDamagedError):
            found = read(path)
            if found.optimizer_path.is_file():
                return found
    return None


def prune(parent: Path, *, keep_last: int, keep_steps: Iterable[int]) -> None:
    """Remove all but the newest `keep_last` resume checkpoints and the steps named; and leftovers of crashes."""
    kept = {f"{_PREFIX}{step:06d}" for step in keep_steps}
    resume = sorted(path for path in _checkpoints(parent) if path.name not in kept)
    for path in resume[: max(0, len(resume) - keep_last)]:
        # The manifest goes first: half-removed must never look whole.
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
    for leftover in parent.glob(".*-*"):
        shutil.rmtree(leftover)


def remove_all(parent: Path) -> None:
    """Forget the checkpoints of an earlier run in the same folder."""
    if parent.is_dir():
        shutil.rmtree(parent)


def _checkpoints(parent: Path) -> Iterable[Path]:
    return parent.glob(f"{_PREFIX}[0-9]*") if parent.is_dir() else ()


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
