"""Checkpoint folders as the engine writes them: found, verified, packed and unpacked. Torch-free.

A folder `step-000123/` holds `adapter/`, the optimiser's state and, written last, `manifest.json`
with the SHA-256 of every other file.
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.contracts.reports import METRIC_LOG, Checkpoint, Metric
from app.logs import logger

_MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{6,})")


class CheckpointDamaged(Exception):  # noqa: N818 - what the folder is
    """Not a whole checkpoint; the message says which file."""


def step_of(folder: Path) -> int:
    """The step in the folder's name; `CheckpointDamaged` if it is no checkpoint's name."""
    match = _NAME.fullmatch(folder.name)
    if match is None:
        raise CheckpointDamaged(f"{folder.name} is no checkpoint folder")
    return int(match[1])


def verify(folder: Path, *, manifest_sha256: str | None = None) -> None:
    """Check every file against the manifest (and the manifest against a given hash)."""
    try:
        manifest = (folder / _MANIFEST).read_bytes()
        if manifest_sha256 is not None and hashlib.sha256(manifest).hexdigest() != manifest_sha256:
            raise CheckpointDamaged(f"{folder.name}/{_MANIFEST} is not the one the engine reported")
        said: dict[str, Any] = json.loads(manifest)
        files: dict[str, str] = said["files"]
        # What nobody reads too: a manifest of which a bit was changed is none.
        if said != {"version": 1, "step": step_of(folder), "files": files}:
            raise CheckpointDamaged(f"{folder.name}/{_MANIFEST} is not as it was written")
        present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        if present != {*files, _MANIFEST}:
            raise CheckpointDamaged(f"{folder.name} does not hold exactly the files its manifest names")
        for name, digest in files.items():
            if sha256_of(folder / name) != digest:
                raise CheckpointDamaged(f"{folder.name}/{name} does not have the hash its manifest states")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(f"{folder.name}: {error}") from error


def newest(parent: Path) -> Path | None:
    """The newest whole checkpoint below `parent`; damaged ones are passed over."""
    folders = [path for path in parent.glob("step-*") if _NAME.fullmatch(path.name)] if parent.is_dir() else []
    for folder in sorted(folders, key=step_of, reverse=True):
        try:
            verify(folder)
        except CheckpointDamaged:
            continue
        return folder
    return None


def describe(folder: Path, run_id: str, *, is_final: bool) -> Checkpoint:
    """The report the engine made of this whole checkpoint, for one whose report was lost with an attempt."""
    try:
        state = json.loads((folder / "state.json").read_bytes())
        last_metric = state["last_metric"]
        return Checkpoint(
            run_id=run_id,
            step=step_of(folder),
            path=str(folder),
            manifest_sha256=sha256_of(folder / _MANIFEST),
            is_epoch_end=state["step"] in state["epoch_end_steps"],
            is_final=is_final,
            trained_tokens=state["trained_tokens"],
            last_metric=None if last_metric is None else Metric.model_validate(last_metric),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(f"{folder.name}: {error}") from error


def epoch_ends(resume: Path) -> list[Path]:
    """The whole checkpoints of finished epochs beside `resume` and `resume` if it is one, oldest first.

    One that was stopped before its validation comes again from the engine, with what that finds.
    """
    try:
        state = json.loads((resume / "state.json").read_bytes())
        steps: set[int] = {*state["epoch_end_steps"]} - (
            {state["step"]} if state.get("is_validation_pending") else set()
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointDamaged(f"{resume.name}: {error}") from error
    found = []
    for folder in sorted(resume.parent.glob("step-*"), key=lambda path: path.name):
        try:
            if step_of(folder) in steps and step_of(folder) <= step_of(resume):
                verify(folder)
                found.append(folder)
        except CheckpointDamaged:
            continue
    return found


def metrics_between(resume: Path, *, after_step: int) -> list[Metric]:
    """The figures of the steps after `after_step` up to the checkpoint `resume`, as the engine noted them beside it.

    An attempt may have died before it could record them. Of a step noted twice the last figures count.
    """
    log = resume.parent / METRIC_LOG
    if not log.is_file():
        return []
    found: dict[int, Metric] = {}
    for line in log.read_bytes().splitlines():
        try:
            metric = Metric.model_validate_json(line)
        except ValidationError:
            logger.warning("a line of %s is torn and was passed over", log)
            continue
        if after_step < metric.step <= step_of(resume):
            found[metric.step] = metric
    return [found[step] for step in sorted(found)]


def link(source: Path, target: Path) -> None:
    """A second name for every file, so that the engine may prune its own copy while ours is sent."""
    shutil.copytree(source, target, copy_function=os.link)


def pack(folder: Path, archive: Path) -> None:
    """Write `folder` as a tar whose bytes depend on names and contents alone."""
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            add_file(tar, path, f"{folder.name}/{path.relative_to(folder)}")


def add_file(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """One member without owner, time or mode of its own."""
    member = tarfile.TarInfo(name)
    member.size = path.stat().st_size
    member.mode = 0o644
    with path.open("rb") as file:
        tar.addfile(member, file)


def unpack(archive: Path, parent: Path) -> Path:
    """Unpack and verify a packed checkpoint below `parent`; the folder appears whole or not at all."""
    incoming = parent / f".incoming-{archive.stem}"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(incoming, filter="data")
        (unpacked,) = incoming.iterdir()
        step_of(unpacked)
        verify(unpacked)
        target = parent / unpacked.name
        if target.exists():
            shutil.rmtree(target)
        return unpacked.rename(target)
    except (tarfile.TarError, ValueError) as error:
        raise CheckpointDamaged(f"the stored checkpoint cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(incoming)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
