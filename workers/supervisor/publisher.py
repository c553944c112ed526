"""Takes checkpoints to the artifact store beside the training, one at a time."""

import shutil
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from app.contracts.errors import storage_failure, transient
from app.contracts.reports import Checkpoint
from app.jobs.worker_messages import PublishedAdapter, TrainingTask
from app.logs import logger
from workers.supervisor import checkpoint_folder
from workers.supervisor.adapter_archive import publish_adapter
from workers.supervisor.checkpoint_folder import CheckpointDamaged
from workers.supervisor.held_job import HeldJob

_STORE_TRIES = 5
_FIRST_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class _Item:
    checkpoint: Checkpoint
    folder: Path
    """Our own links to the checkpoint's files."""
    as_model: bool
    """Also published under a model name of its own."""


class Publisher:
    """One job's uploads. Every checkpoint becomes the resume checkpoint; the offered ones become models too.

    Used as `with Publisher(…) as publisher:`; leaving the block drops what has not begun.
    """

    def __init__(self, held: HeldJob, task: TrainingTask, staging: Path) -> None:
        self._held = held
        self._task = task
        self._staging = staging
        self._left = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publisher")
        self._uploads: list[Future[None]] = []
        self._newest: _Item | None = None
        self._newest_step = task.resume_checkpoint.step if task.resume_checkpoint else 0
        self._stored: dict[int, PublishedAdapter] = {}
        self._has_failed = False
        self._resume_key = task.resume_checkpoint.archive_key if task.resume_checkpoint else None

    def __enter__(self) -> Self:
        self._staging.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        # An upload stuck in a dead connection is left to its own end.
        self._thread.shutdown(wait=False, cancel_futures=True)

    def offer(self, checkpoint: Checkpoint, *, as_model: bool) -> bool:
        """Take over a checkpoint the engine has just reported. Returns at once; `drain` waits.

        False if its folder is gone: the engine keeps only the newest ones and the best. The result of a run may be a
        step that has been offered before: then it only gets its second name.
        """
        kind = "result" if checkpoint.is_final else "model" if as_model else "resume"
        folder = self._staging / kind / Path(checkpoint.path).name
        shutil.rmtree(folder, ignore_errors=True)
        try:
            checkpoint_folder.link(Path(checkpoint.path), folder)
        except OSError as error:
            is_gone = isinstance(error, FileNotFoundError) and not checkpoint.is_final
            if as_model and not is_gone:
                message = f"A checkpoint could not be taken over: {error}"
                raise storage_failure(error, "checkpoint_unreadable", message) from error
            logger.warning("checkpoint of step %d skipped: %s", checkpoint.step, error)
            return False
        item = _Item(checkpoint, folder, as_model)
        # The result may lie behind the last step: nobody should resume from there.
        if not checkpoint.is_final or checkpoint.step >= self._newest_step:
            self._newest, self._newest_step = item, checkpoint.step
        self._uploads = [upload for upload in self._uploads if not upload.done() or upload.exception() is not None]
        self._uploads.append(self._thread.submit(self._store, item))
        return True

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Wait until all is stored; False after the timeout. Raises what made an upload fail."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not_done := wait(self._uploads, timeout=0.1, return_when=FIRST_EXCEPTION).not_done:
            self._held.lease.check()
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if any(upload.done() and upload.exception() for upload in self._uploads):
                logger.error("an upload failed; %d more are given up", len(not_done))
                break
        for upload in self._uploads:
            if upload.done():
                upload.result()
        return True

    def forget_resume(self) -> None:
        """The job has ended for good: nobody will resume it."""
        if self._resume_key is not None:
            _delete(self._held, self._resume_key)

    def _store(self, item: _Item) -> None:
        """Models are stored in their order; after a failure nothing newer is, so that none is forgotten."""
        if self._has_failed:
            return
        self._has_failed = True
        if item.as_model:
            self._publish(item)
        if item is self._newest:  # else a newer one waits: only the newest is worth resuming from
            self._store_resume(item)
        self._has_failed = False
        shutil.rmtree(item.folder, ignore_errors=True)

    def _publish(self, item: _Item) -> None:
        checkpoint, held = item.checkpoint, self._held
        adapter = self._stored.get(checkpoint.step) or self._store_adapter(item)
        self._stored[checkpoint.step] = adapter
        held.write(
            lambda jobs: jobs.publish_checkpoint(
                held.job_id,
                held.fence,
                checkpoint.step,
                adapter,
                checkpoint.last_metric,
                is_final=checkpoint.is_final,
            )
        )

    def _store_adapter(self, item: _Item) -> PublishedAdapter:
        """Into the store, tried several times; a transient `WorkerFailure` if it does not take it."""
        checkpoint, held = item.checkpoint, self._held
        key = f"jobs/{held.job_id}/{held.fence}/adapter-{checkpoint.step}.tar"
        pause, tried = _FIRST_PAUSE_SECONDS, 0
        while True:
            tried += 1
            try:
                checkpoint_folder.verify(item.folder, manifest_sha256=checkpoint.manifest_sha256)
                return publish_adapter(
                    held.context.artifacts,
                    item.folder / "adapter",
                    base=self._task.base,
                    key=key,
                    staging=self._staging,
                )
            except CheckpointDamaged as damage:
                raise transient("checkpoint_damaged", f"A checkpoint was damaged on disk: {damage}") from damage
            except OSError as error:
                logger.warning("adapter of step %d not stored (try %d): %s", checkpoint.step, tried, error)
                if tried == _STORE_TRIES or self._left.wait(pause):
                    message = "The artifact store does not take the adapter."
                    raise storage_failure(error, "artifact_store", message) from error
                pause *= 2

    def _store_resume(self, item: _Item) -> None:
        """Best effort: without it a lost machine costs the steps since the one before."""
        held, step = self._held, item.checkpoint.step
        key = f"jobs/{held.job_id}/{held.fence}/resume-{step}.tar"
        archive = self._staging / f"resume-{step}.tar"
        try:
            checkpoint_folder.verify(item.folder, manifest_sha256=item.checkpoint.manifest_sha256)
            checkpoint_folder.pack(item.folder, archive)
            stored = held.context.artifacts.put_file(key, archive)
        except (OSError, CheckpointDamaged) as error:
            logger.warning("resume checkpoint of step %d not stored: %s", step, error)
            return
        finally:
            archive.unlink(missing_ok=True)
        replaced = held.write(
            lambda jobs: jobs.record_resume_checkpoint(held.job_id, held.fence, step, key, stored.sha256)
        )
        self._resume_key = key
        # After a repeated commit the row names the new archive already.
        if replaced is not None and replaced != key:
            _delete(held, replaced)


def _delete(held: HeldJob, key: str) -> None:
    """Remove an archive that is of no more use; if the store is away, it stays behind as waste."""
    try:
        held.context.artifacts.delete(key)
    except OSError as error:
        logger.warning("archive %s could not be removed: %s", key, error)
