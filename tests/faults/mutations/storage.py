"""What is written: commits and their bells, and what is on the disk."""

from tests.faults.mutations.mutant import GOAL, Mutant

_TORN = f"{GOAL}[torn]"

STORAGE = (
    # Commit and bell.
    Mutant(
        "the bell rings before the commit",
        "app/db/engine.py",
        "        if self.session.in_transaction():\n            self.session.commit()\n",
        "        for queue in self._rings:\n            self._broker.ring(queue)\n"
        "        if self.session.in_transaction():\n            self.session.commit()\n",
        "tests/app/db/test_engine.py",
    ),
    Mutant(
        "a rolled-back bell rings later",
        "app/db/engine.py",
        "        self.session.rollback()\n        self._rings.clear()\n",
        "        self.session.rollback()\n",
        "tests/app/db/test_engine.py",
    ),
    Mutant(
        "bytes of a rolled-back file stay",
        "app/db/engine.py",
        "        for undo in reversed(self._after_rollback):\n            undo()\n",
        "",
        "tests/app/db/test_engine.py tests/app/files",
    ),
    Mutant(
        "a lost bell is never rung again",
        "app/pool/service.py",
        "            self._work.ring(Queue.CPU)\n",
        "            pass\n",
        "tests/app/pool/test_claims.py",
    ),
    # What is on the disk.
    Mutant(
        "a stored file is not synced",
        "app/artifacts/local.py",
        "        os.fsync(self._file.fileno())\n",
        "",
        "tests/app/artifacts",
    ),
    Mutant(
        "the folder of a stored file is not synced",
        "app/artifacts/local.py",
        "            sync_folder(folder)\n",
        "            pass\n",
        "tests/app/artifacts",
    ),
    Mutant(
        "a fetched file's hash is not compared",
        "app/artifacts/local.py",
        "if digest.hexdigest() != sha256:",
        "if False:",
        "tests/adapters/test_artifact_store.py",
    ),
    Mutant(
        "a checkpoint's files are not synced",
        "workers/engine/training/synced_files.py",
        "            contents.write(path)\n    sync(path)\n",
        "            contents.write(path)\n",
        "tests/workers/engine/training/test_checkpoint.py",
    ),
    Mutant(
        "a checkpoint is written where it will be found",
        "workers/engine/training/checkpoint.py",
        '    staging = parent / f".{_PREFIX}{step:06d}-{uuid.uuid4().hex}"\n',
        '    staging = parent / f"{_PREFIX}{step:06d}"\n',
        _TORN,
    ),
    Mutant(
        "a checkpoint's hashes are not compared",
        "workers/engine/training/checkpoint.py",
        "if _sha256(path / name) != digest:",
        "if False:",
        _TORN,
    ),
    Mutant(
        "a fetched checkpoint's hashes are not compared",
        "workers/supervisor/checkpoint_folder.py",
        "if sha256_of(folder / name) != digest:",
        "if False:",
        "tests/workers/supervisor/test_checkpoint_folder.py",
    ),
)
