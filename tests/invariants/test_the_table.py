"""`docs/invariants.md` and the tests it names are of one mind."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "invariants.md"
FAULTS = 36
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [[cell.strip() for cell in line.split(" | ")] for line in PAGE.read_text().splitlines() if line[:3] != "| #"]
FAULT_ROWS = [row for row in ROWS if re.fullmatch(r"\| \d+", row[0])]


def names_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_fault_has_its_row_with_tests_or_the_reason_why_it_cannot_be():
    assert [row[0] for row in FAULT_ROWS] == [f"| {number}" for number in range(1, FAULTS + 1)]
    untested = [row for row in FAULT_ROWS if not NAMED.search(row[2])]
    assert all("Does not apply: " in row[-1] for row in untested), untested


def test_every_test_that_is_named_exists():
    missing = [
        f"{path}::{name}"
        for path, name in NAMED.findall(PAGE.read_text())
        if not (ROOT / path).is_file() or name not in names_in(ROOT / path)
    ]
    assert missing == []


def test_every_test_of_this_folder_is_named():
    named = set(NAMED.findall(PAGE.read_text()))
    here = {
        (str(path.relative_to(ROOT)), name)
        for path in Path(__file__).parent.glob("test_*.py")
        if path != Path(__file__)
        for name in names_in(path)
    }
    assert sorted(here - named) == []
