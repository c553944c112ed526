"""File, API, serving process, tokenizer and command line, each as in production; the base is tiny and random."""

import json

import pytest

from app.cli.main import main
from app.db.tables import BaseModelRow
from tests.support.serving_engine import serving_engine
from tests.support.tiny_models import END, build_tiny_base

ROWS = [
    {"messages": [{"role": "user", "content": "My parcel is late."}, {"role": "assistant", "content": "delivery"}]},
    {"prompt": "a row of another kind"},
    {
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Not learned.", "weight": 0},
            {"role": "user", "content": "word " * 120},
            {"role": "assistant", "content": "repair\nsoon"},
        ]
    },
    {"messages": [{"role": "user", "content": f"forged {END}"}, {"role": "assistant", "content": "no"}]},
]


@pytest.fixture(scope="module")
def engine_url(tmp_path_factory):
    with serving_engine(tmp_path_factory.mktemp("engine")) as url:
        yield url


@pytest.fixture
def settings(settings, engine_url):
    return settings.model_copy(update={"server_url": engine_url})


@pytest.fixture(autouse=True)
def base(context, settings):
    ref = build_tiny_base(settings.bases_dir / "tiny", context_length=256)
    row = BaseModelRow(
        id="tiny",
        folder="tiny",
        kind="causal_lm",
        licence="test",
        source="test",
        context_length=ref.context_length,
        parameters=1000,
        has_chat_template=True,
        files={},
        weights_sha256=ref.weights_sha256,
    )
    with context.database.unit_of_work() as work:
        work.session.add(row)


@pytest.fixture
def run(live_server, api_key, monkeypatch, capsys, tmp_path):
    """Runs `tunesmith preview`; (exit code, stdout)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["tunesmith", "--base-url", live_server, "--api-key", api_key, *arguments])
        try:
            main()
        except SystemExit as end:
            return end.code or 0, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return run


def test_the_command_shows_what_would_be_learned_and_leaves_no_file_behind(run):
    code, out = run("preview", "rows.jsonl", "--base", "tiny", "--max-length", "120")
    assert code == 0
    assert f"⟦delivery{END}⟧" in out
    assert f"⟦repair\n┃ soon{END}⟧" in out
    assert "⟦Not learned" not in out
    assert "tokens do not fit and are left out" in out
    assert "Nothing is learned from this row: message 1 contains the control token" in out
    assert "1 row of the file is faulty" in out
    assert "No files yet." in run("files", "list")[1]


def test_an_uploaded_file_is_named_by_its_id_and_stays(run):
    file_id = json.loads(run("--json", "files", "upload", "rows.jsonl")[1])["id"]
    code, out = run("--json", "preview", file_id, "--base", "tiny", "--longest", "--rows", "1")
    answer = json.loads(out)
    assert (code, answer["file_id"], [row["line"] for row in answer["rows"]]) == (0, file_id, [3])
    learned = [s["text"] for s in answer["rows"][0]["parts"][0]["segments"] if s["is_trained"]]
    assert "".join(learned) == f"repair\nsoon{END}"
    assert file_id in run("files", "list")[1]


def test_a_preview_that_is_refused_leaves_no_file_behind_either(run):
    code, _ = run("preview", "rows.jsonl", "--base", "absent")
    assert code == 1
    assert "No files yet." in run("files", "list")[1]
