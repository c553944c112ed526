"""G5: a process that writes checkpoints dies by kill -9 at any moment; and whole checkpoints are damaged afterwards."""

import os
import random
import shutil
import signal
import threading
from pathlib import Path

from workers.engine.training import checkpoint

_ADAPTER_BYTES, _OPTIMIZER_BYTES = 200_000, 400_000


def killed(folder: Path, chance: random.Random, count: int) -> list[str]:
    """Kill a writer `count` times; what was wrong with what it left."""
    wrong = []
    _write(folder, 1)
    for number in range(count):
        before = _step(folder)
        pid = os.fork()
        if pid == 0:
            _write_for_ever(folder, before)
        threading.Event().wait(chance.uniform(0.002, 0.06))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = checkpoint.load_latest(folder)
        if found is None or found.state["step"] < before:
            wrong.append(f"kill {number}: {before} was whole before, now {found and found.state['step']}")
        checkpoint.prune(folder, keep_last=2, keep_steps=set())
    return wrong


def damaged(folder: Path, chance: random.Random, count: int) -> list[str]:
    """Damage the newest checkpoint in each of three ways `count` times; where the one before was not taken."""
    wrong = []
    for harm in (_flip_a_bit, _truncate, _remove):
        for number in range(count):
            shutil.rmtree(folder, ignore_errors=True)
            _write(folder, 1)
            _write(folder, 2)
            files = sorted(path for path in checkpoint.step_folder(folder, 2).rglob("*") if path.is_file())
            harm(chance.choice(files), chance)
            if _step(folder) != 1:
                wrong.append(f"{harm.__name__} {number}: step {_step(folder)} was taken")
    return wrong


def _write_for_ever(folder: Path, step: int) -> None:
    try:
        while True:
            step += 1
            _write(folder, step)
    finally:
        os._exit(1)


def _write(folder: Path, step: int) -> None:
    checkpoint.write(
        folder,
        step=step,
        state={"step": step},
        adapter={"adapter_model.safetensors": bytes([step % 256]) * _ADAPTER_BYTES, "adapter_config.json": b"{}"},
        optimizer=bytes([step % 256]) * _OPTIMIZER_BYTES,
    )


def _step(folder: Path) -> int:
    found = checkpoint.load_latest(folder)
    return 0 if found is None else int(found.state["step"])


def _flip_a_bit(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def _remove(path: Path, _: random.Random) -> None:
    path.unlink()
