"""G7: disks that fill up at any point of the work, and machines without enough memory.

Real ones: small file systems in memory (tmpfs) and control groups with a limit, which only root may make.
"""

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from app.db.tables import File
from tests.faults.world import STEP_SECONDS, World

_DISK_BYTES = 4 * 1024 * 1024
_PAGE_BYTES = 4096
_SCRATCH_PAGES = 60
"""What a scripted job of ten steps writes, about: from nowhere to nearly everything is room for a while."""
_STORE_PAGES = 16
_MEMORY_BYTES = 400 * 1024 * 1024
_EVERY_SO_OFTEN = 5
_MOUNT, _UNMOUNT = "/bin/mount", "/bin/umount"
_GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


class NotAllowedError(Exception):
    """This machine lets us make no such disk or group."""


@dataclass
class Tally:
    """What came of the trials; `taken_along` are supervisors that ended beside their engines."""

    hit: int = 0
    enough: int = 0
    taken_along: int = 0
    wrong: list[str] = field(default_factory=list)


class SmallDisk:
    """A file system with room for a few megabytes, of which we can leave as little as we like."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, pages: int) -> None:
        """Fill it but for so many pages."""
        ballast = self.folder / ".ballast"
        status = os.statvfs(self.folder)
        with ballast.open("wb") as file:
            file.write(bytes(max(0, (status.f_bavail - pages) * _PAGE_BYTES)))

    def free(self) -> None:
        (self.folder / ".ballast").unlink(missing_ok=True)


@contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """Mounted for as long as the block lasts; `NotAllowedError` if it cannot be."""
    with tempfile.TemporaryDirectory(prefix="tsm-disk-") as name:
        folder = Path(name) / "disk"
        folder.mkdir()
        command = [_MOUNT, "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            raise NotAllowedError("no file system can be mounted: it needs root")
        try:
            yield SmallDisk(folder)
        finally:
            subprocess.run([_UNMOUNT, "--lazy", str(folder)], check=True)


@contextmanager
def little_memory(limit_bytes: int = _MEMORY_BYTES) -> Iterator[tuple[str, ...]]:
    """A command that runs the rest of its line in a control group with this limit; `NotAllowedError` if none can be."""
    for parent, limit in zip(_GROUPS, ("memory.limit_in_bytes", "memory.max"), strict=True):
        group = parent / f"tsm-faults-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(limit_bytes))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        break
    else:
        raise NotAllowedError("no control group can limit memory: it needs root")
    try:
        yield ("/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    finally:
        group.rmdir()


def full_scratch(count: int, seed: int) -> Tally:
    """The worker's own disk is full from somewhere in the job on."""
    with (
        small_disk() as disk,
        World(
            seed, workers=1, max_attempts=2, changed={"scratch_dir": disk.folder, "scratch_min_free_bytes": 0}
        ) as world,
    ):
        return _fill(world, disk, count, _SCRATCH_PAGES, is_early=lambda: world.chance.random() < 0.5)


def full_store(count: int, seed: int) -> Tally:
    """The artifact store's disk is full from somewhere in the job on."""
    with (
        small_disk() as disk,
        World(seed, workers=1, max_attempts=1, changed={"artifacts_url": disk.folder.as_uri()}) as world,
    ):
        return _fill(world, disk, count, _STORE_PAGES, is_early=lambda: False)


def _fill(world: World, disk: SmallDisk, count: int, pages: int, *, is_early: Callable[[], bool]) -> Tally:
    """`is_early` says of each job whether the disk is full before its worker begins, or in the middle."""
    tally, house = Tally(), world.house
    while tally.hit < count:
        room = world.chance.randrange(pages)
        job_id = _submit(world, disk, room, is_early=is_early())
        house.release_hold()
        house.wait_until(partial(_is_over, world, job_id), "its end", 90)
        disk.free()
        job = house.job(job_id)
        tally.hit += job.status == "failed"
        tally.enough += job.status == "succeeded"
        if job.status == "failed" and (job.error or {}).get("code") != "disk_full":
            tally.wrong.append(f"{job_id}, {room} pages: failed with {job.error}")
        tally.wrong += _partial(world, job_id)
        if (tally.hit + tally.enough) % _EVERY_SO_OFTEN == 0:
            house.script(step_seconds=STEP_SECONDS)
            world.submit()
            tally.wrong += world.lost()
    return tally


def _submit(world: World, disk: SmallDisk, room: int, *, is_early: bool) -> str:
    """A job whose engine waits until it is released, with `room` pages left for it."""
    house = world.house
    house.script({"phase": "encode", "kind": "hold_until_released", "times": 1}, step_seconds=STEP_SECONDS)
    for mark in ("released", "reached-encode"):
        Path(f"{house.script_path}.{mark}").unlink(missing_ok=True)
    if is_early:
        disk.leave(room)
    job_id = house.submit()
    if not is_early:
        house.wait_until(lambda: house.reached("encode"), "the engine has the job", 60)
        disk.leave(room)
    return job_id


def _is_over(world: World, job_id: str) -> bool:
    job = world.house.job(job_id)
    return job.status in {"succeeded", "failed"} and job.owner is None


def _partial(world: World, job_id: str) -> list[str]:
    """Models of the job whose bytes are not all there."""
    store, wrong = world.house.context.artifacts, []
    for model in world.house.models(job_id).values():
        try:
            store.fetch(model.archive_key, world.folder / "fetched.tar", sha256=model.archive_sha256)
        except (KeyError, ValueError) as error:
            wrong.append(f"{model.id} can be seen and not be had: {error}")
    return wrong


def full_uploads(count: int, seed: int) -> Tally:
    """Uploads that find no room: no file row, no bytes left behind, and the next one is taken."""
    tally = Tally()
    with (
        small_disk() as disk,
        World(seed, workers=0, has_control=False, changed={"artifacts_url": disk.folder.as_uri()}) as world,
    ):
        row = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
        pages = -(-len(row) * 1000 // _PAGE_BYTES)
        for _ in range(count):
            disk.leave(world.chance.randrange(pages))
            before = _files_of(world)
            try:
                _upload(world, row * 1000)
            except OSError as error:
                tally.hit += error.errno == errno.ENOSPC
                tally.wrong += [] if error.errno == errno.ENOSPC else [str(error)]
            else:
                tally.wrong.append("an upload larger than the disk was taken")
            left = list((disk.folder / ".incoming").iterdir())
            if _files_of(world) != before or left:
                tally.wrong.append(f"an upload that failed left {left or 'a row'}")
            disk.free()
            _delete(world, _upload(world, row))
    return tally


def _upload(world: World, data: bytes) -> str:
    caller = world.house.caller
    with world.house.services() as services:
        file = services.files.create_from_stream(
            caller.team_id, caller.actor, iter([data]), filename="rows.jsonl", purpose="fine-tune"
        )
        return file.id


def _delete(world: World, file_id: str) -> None:
    with world.house.services() as services:
        services.files.delete(world.house.caller, file_id)


def _files_of(world: World) -> set[str]:
    with world.house.context.database.unit_of_work() as work:
        return {file.id for file in work.session.query(File)}


def _is_over_while_kept(world: World, job_id: str, within: Sequence[str], tally: Tally) -> bool:
    tally.taken_along += world.bury()
    world.staff(within=within)
    return _is_over(world, job_id)


def little_memory_jobs(count: int, seed: int) -> Tally:
    """The system ends engines for want of memory: three attempts, then a failure with that name.

    What an engine held counts until its end is complete. A supervisor that needs a page in these milliseconds is ended
    too; it is started again, as whoever keeps it would, and the job has lost no attempt by it.
    """
    tally, attempts = Tally(), 3
    with little_memory() as within, World(seed, workers=0, max_attempts=attempts) as world:
        world.wanted_workers = 1
        world.staff(within=within)
        for number in range(count):
            fault = {"phase": "train", "step": 3 + number % 4, "kind": "eat_memory", "times": 100}
            world.house.script(fault, step_seconds=STEP_SECONDS)
            job_id = world.house.submit()
            world.house.wait_until(partial(_is_over_while_kept, world, job_id, within, tally), "its end", 120)
            job = world.house.job(job_id)
            tally.hit += 1
            if (job.error or {}).get("code") != "out_of_memory" or job.attempts != attempts:
                tally.wrong.append(f"{job_id} failed after {job.attempts} attempts with {job.error}")
            tally.wrong += _partial(world, job_id)
            if number % _EVERY_SO_OFTEN == 0:
                world.house.script(step_seconds=STEP_SECONDS)
                world.submit()
                tally.wrong += world.lost()
    return tally
