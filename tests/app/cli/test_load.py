"""`tunesmith load` against a service on a socket: the table, JSON, and what it says when it cannot measure."""

import json

import pytest

from app.cli.main import main
from tests.support.chat_streams import Reply, ScriptedChat, listening_beside

TUNED_SECONDS = 0.15
"""To the first token: far above what a busy machine adds to the base's."""
QUICK = ["--rate", "50/s", "--requests", "12", "--warm-up", "1"]


def reply(model, number):
    if model == "absent":
        return Reply(status=404)
    return Reply(0.004 if model == "base" else TUNED_SECONDS, 0.002, 4 if model == "base" else 6)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"prompt {number}\n" for number in range(7)))
    return ["--prompts", str(path)]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, prompts):
    """Runs `load` with these arguments against a scripted service; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, first=(), reply=reply):
        with listening_beside(ScriptedChat(reply)) as url:
            argv = ["tunesmith", "--base-url", f"{url}/v1", "--api-key", "key", *first, "load", *prompts, *arguments]
            monkeypatch.setattr("sys.argv", argv)
            with pytest.raises(SystemExit) as end:
                main()
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


def test_the_table_has_both_models_the_difference_and_a_sentence(run):
    code, out, err = run("tuned", "--against", "base", *QUICK, "--price-per-hour", "2", "--slo-e2e", "5000")
    assert code == 0, err
    table, _, words = out.partition("\nAt ")
    words = " ".join(words.split())
    head = next(line for line in table.splitlines() if line)
    assert head.split()[-3:] == ["base", "tuned", "difference"]
    for line in ("first token, p95", "each further token, p99", "whole answer, p50", "answer tokens/s", "failed"):
        assert line in table
    assert "good requests/s (whole ≤ 5,000 ms)" in table
    assert "0 of 12" in table
    assert "cost of 1,000 requests" in table
    assert "100% of the hours paid" in table
    assert "tuned answered half of the requests within" in words
    assert "against base, higher in 4 of 4 turns: slower. Its answers have 6 tokens on average, the base's 4." in words
    assert "100% of the requests kept the stated limits." in words
    assert "turn 4 of 4: tuned" in err


@pytest.mark.parametrize(("first", "last"), [((), ("--json",)), (("--json",), ())])
def test_json_has_everything_under_the_names_of_opentelemetry(run, first, last):
    code, out, err = run("tuned", "--against", "base", *QUICK, *last, first=first)
    assert code == 0, err
    report = json.loads(out)
    base, tuned = report["models"]
    assert (base["gen_ai.request.model"], tuned["gen_ai.request.model"]) == ("base", "tuned")
    for name in ("time_to_first_token", "time_per_output_token", "request.duration"):
        times = tuned[f"gen_ai.server.{name}"]
        assert times["unit"] == "s"
        assert 0 < times["p50"] <= times["p90"] <= times["p95"] <= times["p99"] < 60
        assert times["p95_interval"]["low"] <= times["p95_interval"]["high"]
    assert tuned["gen_ai.server.time_to_first_token"]["p50"] >= TUNED_SECONDS
    rise = report["p95_rise"]["gen_ai.server.request.duration"]
    assert rise["share"] > 0
    assert len(rise["by_turn"]) == 4
    assert rise["verdict"] == "slower"
    assert tuned["gen_ai.usage.output_tokens"]["mean"] == 6
    assert tuned["gen_ai.usage.input_tokens"]["mean"] == 7
    assert (tuned["cost"], tuned["goodput"]) == (None, None)
    assert report["load"]["requests_per_model"] == 12
    assert report["summary"].startswith("At 50 requests a second")


def test_one_model_alone_has_no_difference(run):
    code, out, _ = run("base", *QUICK)
    assert code == 0
    assert "difference" not in out
    assert "The p99 of 12 requests is about their slowest" in out


def test_failed_requests_are_counted_and_said(run):
    code, out, _ = run("tuned", *QUICK, reply=lambda _, number: Reply(status=503 if number == 3 else 200))
    assert code == 0
    assert "2 of 12" in out
    assert "Of 12 requests to tuned, 2 failed: refused with 503." in " ".join(out.split())


def test_a_rate_that_cannot_be_borne_is_said(run):
    asked = ["--rate", "200/s", "--requests", "20", "--rounds", "1"]
    code, out, _ = run("tuned", *asked, reply=lambda *_: Reply(0.3))
    assert code == 0
    assert "tuned did not keep up: 19 of 20 requests were unanswered when the last one came" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "The first request failed (HTTP 404): refused with 404"),
        (["tuned", "--rate", "fast"], "--rate fast: write requests a second"),
        (["tuned", "--rate", "0"], "--rate 0: write requests a second"),
        (["tuned", "--against", "tuned"], "--against names the model itself"),
        (["tuned", "--requests", "2"], "2 requests cannot be shared by 4 rounds"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_exit_code_1(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert f"Error: {said}" in err
