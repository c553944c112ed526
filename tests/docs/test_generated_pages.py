"""The pages that are written by a program are what the program writes now."""

import importlib.util
from pathlib import Path

import pytest

_DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["generate_api_reference", "generate_authorization", "generate_settings_reference"])
def test_a_generated_page_is_current(name):
    spec = importlib.util.spec_from_file_location(name, _DOCS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TARGET.read_text(encoding="utf-8") == script.render(), "run `make docs`"
