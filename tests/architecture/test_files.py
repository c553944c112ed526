"""Every module says in one line what it is for, stays small, and names itself well."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("app", "workers", "migrations") for path in (ROOT / package).rglob("*.py"))
BANNED_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base_class"})
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
LOOP_LINES = 120


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_module_opens_with_its_purpose(path):
    tree = ast.parse(path.read_text())
    if path.name == "__init__.py" and not tree.body:
        return
    purpose = ast.get_docstring(tree)
    assert purpose, f"{relative(path)} has no docstring"
    assert len(purpose.splitlines()[0]) <= 120


def test_no_module_has_a_name_that_says_nothing_or_hides_a_standard_one():
    guilty = [relative(path) for path in FILES if path.stem in BANNED_NAMES]
    shadowing = [relative(path) for path in FILES if path.parent == ROOT and path.stem in sys.stdlib_module_names]
    assert guilty + shadowing == []


def test_files_and_functions_stay_small():
    guilty = []
    for path in FILES:
        text = path.read_text()
        if relative(path).startswith("migrations/versions"):
            continue
        lines = len(text.splitlines())
        if lines > MAX_FILE_LINES:
            guilty.append(f"{relative(path)} has {lines} lines")
        limit = LOOP_LINES if relative(path) == "workers/engine/training/loop.py" else MAX_FUNCTION_LINES
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > limit:
                    guilty.append(f"{relative(path)}: {node.name} has {length} lines")
    assert guilty == []


def test_the_environment_is_read_in_one_place():
    """`app.settings` reads it; the command line and the process starters pass it on."""
    allowed = {"app/settings.py"}
    guilty = [
        relative(path)
        for path in FILES
        if relative(path) not in allowed
        and not relative(path).startswith(("app/cli/", "app/embedded/", "workers/"))
        and any(word in path.read_text() for word in ("os.environ", "os.getenv"))
    ]
    assert guilty == []
