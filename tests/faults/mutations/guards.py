"""Scarcity, threads, and who is known."""

from tests.faults.mutations.mutant import Mutant

GUARDS = (
    Mutant(
        "the end of a request waits for a handler's thread",
        "app/api/edge.py",
        "limiter=request.app.state.ending_threads",
        "limiter=None",
        "tests/app/api/test_edge.py",
    ),
    Mutant(
        "a bell before the pool knows the worker is lost",
        "workers/supervisor/round.py",
        "if not slot.wait_until_known():",
        "if not slot.is_known:",
        "tests/workers/supervisor/test_presence.py",
    ),
    Mutant(
        "a worker on a full disk claims",
        "workers/supervisor/round.py",
        "lack = lack_of_room(root, context.settings.scratch_min_free_bytes)",
        "lack = lack_of_room(root, 0)",
        "tests/workers/supervisor/test_workspace.py",
    ),
    Mutant(
        "a look forgets whose it is",
        "app/db/look.py",
        "(ENTER_BY_KEY_NUMBERED, (API_ROLE, sha256))",
        '(ENTER_BY_KEY_NUMBERED, ("none", sha256))',
        "tests/app/db/test_look.py",
    ),
    Mutant(
        "a manifest with a changed bit is one",
        "workers/engine/training/checkpoint.py",
        'if manifest_bytes != _manifest(state["step"], expected):',
        "if not manifest_bytes:",
        "tests/workers/engine/training/test_checkpoint.py",
    ),
    Mutant(
        "a full disk is a crash like any other",
        "app/contracts/errors.py",
        "return error.errno in _NO_ROOM",
        "return False",
        "tests/workers/engine/test_engine.py tests/app/api/test_errors.py",
    ),
    Mutant(
        "a batch is left open in a pipeline",
        "app/db/cursor.py",
        "def executemany(",
        "def execute_one_by_one(",
        "tests/app/db/test_cursor.py",
    ),
)
