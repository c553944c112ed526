"""The page on evals: its example runs, and it names what is served and refused."""

import importlib.util
import json
from pathlib import Path

import pytest

from app.evals.graders.similarity import SIMILARITIES
from tests.support.eval_world import EvalWorld
from tests.support.scripted_generator import saying
from tests.support.tuned_models import add_base

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "evals.md").read_text()


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("run_evals", DOCS / "examples" / "run_evals.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture
def world(context, services, api_key):
    for base_id in ("tiny", "other"):
        add_base(services, base_id)
    with services() as s:
        caller = s.identity.authenticate(api_key)
    return EvalWorld(context, services, caller)


def test_the_example_runs(example, world, live_server, api_key, monkeypatch, tmp_path, capsys):  # noqa: PLR0917
    monkeypatch.setenv("OPENAI_BASE_URL", f"{live_server}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", api_key)
    world.generator.scripts = [saying("delivery"), saying("delivery"), saying("billing"), saying("billing")]
    monkeypatch.setattr(example.time, "sleep", lambda _: world.turn(at_once=1))
    lines = [{"item": {"question": f"Which? {word}", "answer": word}} for word in ("delivery", "delivery")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert example.main("tiny", "other", str(tmp_path / "rows.jsonl")) == 0
    said = capsys.readouterr().out
    assert "tiny exact: 100% (95 %: 34% to 100%)" in said
    assert "other exact: 0% (95 %: 0% to 66%)" in said
    assert "'Which? delivery': 'billing'" in said


def test_every_similarity_is_named():
    shown = PAGE.replace("`rouge_1` … `rouge_5`", " ".join(f"`rouge_{order}`" for order in range(1, 6)))
    assert [name for name in SIMILARITIES if f"`{name}`" not in shown] == []


def test_every_code_of_a_refusal_is_named():
    source = (DOCS.parent / "app/evals/graders/refusals.py").read_text()
    codes = {line.split('"')[1] for line in source.splitlines() if "code=" in line}
    assert codes
    assert [code for code in codes if f"`{code}`" not in PAGE] == []
