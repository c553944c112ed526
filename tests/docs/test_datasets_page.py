"""The page on datasets shows what the reader takes, and explains every fault it can name."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.reading import read

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/datasets.md").read_text()
EXAMPLES = re.findall(r"```(json|csv|)\n(.*?)```", PAGE, re.DOTALL)
_NAMING = {"add", "LineFault", "HeaderFault", "Finding", "Unclear"}


@pytest.mark.parametrize(("syntax", "text"), EXAMPLES)
def test_every_example_is_read_without_a_fault(syntax, text):
    found = read(text, {"json": "rows.jsonl", "csv": "rows.csv", "": "rows.conll"}[syntax], method=None)
    assert found.faults == []
    assert found.rows


def test_every_kind_of_row_has_an_example():
    kinds = {row.kind for syntax, text in EXAMPLES for row in read(text, method=None).rows}
    assert kinds == {"chat", "preference", "text_classification", "token_classification", "summarization"}


def test_every_fault_that_can_be_named_is_explained():
    names = set()
    for path in (ROOT / "app/datasets").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            if called in _NAMING and len(node.args) > 1:
                names.add(node.args[0].value)
    assert len(names) > 25
    assert sorted(name for name in names if f"`{name}`" not in PAGE) == []
