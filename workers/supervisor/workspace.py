"""The scratch folder of one job on one worker: inputs by hash, checkpoints, kept only for the same inputs."""

import hashlib
import json
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from app.context import Context
from app.contracts.errors import storage_failure
from app.contracts.specs import AdapterRef
from app.datasets.report import PreparedDataset
from app.factory import Services
from app.jobs.worker_messages import ParentAdapter, TrainingTask
from app.logs import logger
from workers.supervisor import checkpoint_folder
from workers.supervisor.adapter_archive import fetch_adapter
from workers.supervisor.checkpoint_folder import CheckpointDamaged
from workers.supervisor.evaluation_step import Scored

_IDENTITY = "inputs.sha256"
_ABANDONED_SECONDS = 3600.0


class Workspace:
    """`root/<job id>`: rows, the parent's adapter, `output/checkpoints`, and `staging` for uploads."""

    def __init__(self, root: Path, task: TrainingTask) -> None:
        self._task = task
        self.folder = root / task.job_id
        self.output = self.folder / "output"
        self.checkpoints = self.output / "checkpoints"
        self.staging = self.folder / "staging"

    def open(self) -> None:
        """Make the folder; what an attempt with other inputs left in it goes first."""
        identity = _identity(self._task)
        mark = self.folder / _IDENTITY
        if self.folder.exists() and not (mark.is_file() and mark.read_text() == identity):
            shutil.rmtree(self.folder)
        shutil.rmtree(self.staging, ignore_errors=True)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.staging.mkdir(exist_ok=True)
        mark.write_text(identity)

    def prepare(self, context: Context) -> PreparedDataset:
        """Canonical rows from the stored files. `WorkerFailure` as `DatasetService.prepare` says."""
        work = context.database.open()  # never connects: preparing touches no table
        try:
            datasets = Services(context, work).datasets
            return datasets.prepare(
                self._task.training_file,
                self._task.validation_file,
                self.folder,
                task=self._task.task,
                method=self._task.method,
                wants_selection=self._task.wants_selection,
            )
        finally:
            work.close()

    def fetch_parent(self, context: Context) -> AdapterRef | None:
        """The adapter the job continues from or scores; a transient `WorkerFailure` if it cannot be had."""
        return None if self._task.parent is None else self._fetch(context, self._task.parent, "parent")

    def fetch_scored(self, context: Context) -> Scored:
        """What an evaluation on demand scores; failures as `fetch_parent`."""
        adapter = self.fetch_parent(context)
        assert adapter is not None  # noqa: S101 - an evaluation names a model
        against = self._task.against
        return Scored(adapter, None if against is None else self._fetch(context, against, "against"))

    def _fetch(self, context: Context, stored: ParentAdapter, name: str) -> AdapterRef:
        try:
            folder = fetch_adapter(context.artifacts, stored, self.folder / name)
        except (KeyError, ValueError, OSError) as error:
            message = f"The adapter of {stored.model_id} could not be fetched from the artifact store."
            logger.warning("%s %s", message, error)
            raise storage_failure(error, "parent_unavailable", message) from error
        return AdapterRef(id=stored.model_id, path=str(folder), sha256=stored.adapter_sha256)

    def find_resume(self, context: Context) -> Path | None:
        """The newest whole checkpoint: this worker's own, or the published one if that is newer."""
        local = checkpoint_folder.newest(self.checkpoints)
        published = self._task.resume_checkpoint
        if published is None or (local is not None and checkpoint_folder.step_of(local) >= published.step):
            return local
        archive = self.staging / f"resume-{published.step}.tar"
        try:
            context.artifacts.fetch(published.archive_key, archive, sha256=published.sha256)
            return checkpoint_folder.unpack(archive, self.checkpoints)
        except (KeyError, ValueError, OSError, CheckpointDamaged) as error:
            logger.warning("the stored checkpoint of step %d cannot be used: %s", published.step, error)
            return local
        finally:
            archive.unlink(missing_ok=True)

    def remove(self) -> None:
        """The job is over for this worker."""
        shutil.rmtree(self.folder, ignore_errors=True)


def lack_of_room(root: Path, wanted_bytes: int) -> str | None:
    """What to say of a disk with fewer bytes left than that: a worker on it would fail one job after the other."""
    root.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(root).free
    if free_bytes >= wanted_bytes:
        return None
    return (
        f"The disk of its scratch folder has {free_bytes // 10**6} MB left and a job wants {wanted_bytes // 10**6} MB "
        "(TUNESMITH_SCRATCH_MIN_FREE_BYTES). Make room there."
    )


def sweep(root: Path, *, keep: Collection[str]) -> None:
    """Remove what crashed attempts of other jobs left here more than an hour ago."""
    if not root.is_dir():
        return
    oldest = time.time() - _ABANDONED_SECONDS
    for folder in root.iterdir():
        if folder.name not in keep and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def _identity(task: TrainingTask) -> str:
    """SHA-256 of all that decides the training's result."""
    inputs = {
        "base": task.base.weights_sha256,
        "training_file": task.training_file.sha256,
        "validation_file": task.validation_file.sha256 if task.validation_file else None,
        "parent": task.parent.adapter_sha256 if task.parent else None,
        "spec": task.spec,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
