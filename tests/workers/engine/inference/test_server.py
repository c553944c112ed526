"""The serving process over real HTTP on loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

from app.contracts.generation import Done, ErrorLine, PromptScored, TokenDelta, generation_line_adapter
from app.contracts.previews import Preview, PreviewSpec
from app.contracts.specs import AdapterRef, GenerateSpec, LoraSpec, SamplingSpec
from tests.support.tiny_models import build_tiny_base
from tests.workers.engine.conftest import chat_row
from workers.engine.base_model import load_base
from workers.engine.inference.generate import StepDelta, generate
from workers.engine.inference.requests import encode_request
from workers.engine.inference.server import main
from workers.engine.training.adapter_files import encode_adapter, weights_sha256
from workers.engine.training.synced_files import write_file

TOKEN = "a-token-for-tests"
DEADLINE_SECONDS = 60


class House:
    """A serving process and, in this process, the same models to compare with."""

    def __init__(self, folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
            self.base = build_tiny_base(folder / "base", context_length=8192)
            self.resident = load_base(self.base, torch.device("cpu"))
        self.folder = folder
        self.adapters = [self.make_adapter(f"ft:{seed}", seed) for seed in (1, 2)]
        self.process, self.url = start_server(folder)

    def make_adapter(self, name, seed):
        """Seed 0 gives an adapter that changes nothing."""
        weights = self.resident.linears.new_adapter(LoraSpec(rank=4, alpha=8))
        generator = torch.Generator().manual_seed(seed)
        weights.initialise(generator)
        for b in weights.B.values():
            b.copy_(torch.randn(b.shape, generator=generator) * (0.3 if seed else 0))
        weights.refresh()
        path = self.folder / f"adapter-{seed}"
        path.mkdir()
        for file, data in encode_adapter(weights, self.base.id).items():
            write_file(path / file, data)
        return weights, AdapterRef(id=name, path=str(path), sha256=weights_sha256(path))

    def spec(self, text="My parcel is late.", adapter=None, **sampling):
        sampling = {"max_new_tokens": 12, "temperature": 0} | sampling
        return GenerateSpec(
            base=self.base,
            adapter=adapter,
            messages=({"role": "user", "content": text},),
            sampling=SamplingSpec(**sampling),
        )

    def post(self, spec, token=TOKEN):
        body = spec if isinstance(spec, str) else spec.model_dump_json()
        return httpx.post(f"{self.url}/generate", content=body, headers=bearer(token), timeout=DEADLINE_SECONDS)

    def stream(self, spec):
        body = spec.model_dump_json()
        return httpx.stream(
            "POST", f"{self.url}/generate", content=body, headers=bearer(TOKEN), timeout=DEADLINE_SECONDS
        )

    def health(self):
        return httpx.get(f"{self.url}/health", timeout=DEADLINE_SECONDS).json()

    def expected_text(self, spec, weights=None):
        prompt = encode_request(self.resident, spec, key=0)
        events = generate(self.resident, weights, [prompt])
        return "".join(e.line.text for e in events if isinstance(e, StepDelta))

    def preview(self, spec, token=TOKEN):
        body = spec if isinstance(spec, str) else spec.model_dump_json()
        return httpx.post(f"{self.url}/preview", content=body, headers=bearer(token), timeout=DEADLINE_SECONDS)


def bearer(token):
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def start_server(folder, *options):
    ready, token_file = folder / "ready.json", folder / "token"
    ready.unlink(missing_ok=True)
    token_file.write_text(TOKEN + "\n")
    command = [sys.executable, "-m", "workers.engine.inference.server", "--host", "127.0.0.1", "--port", "0"]
    command += ["--token-file", str(token_file), "--ready-file", str(ready), *options]
    environment = os.environ | {"TUNESMITH_ENGINE_DTYPE": "float32", "TUNESMITH_ENGINE_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not ready.exists():
        assert time.monotonic() < deadline, "the server did not become ready"
        try:
            pytest.fail(f"the server left with status {process.wait(timeout=0.05)}")
        except subprocess.TimeoutExpired:
            continue
    return process, json.loads(ready.read_text())["base_url"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    torch.set_num_threads(1)
    found = House(tmp_path_factory.mktemp("serving"))
    yield found
    found.process.terminate()
    assert found.process.wait(timeout=DEADLINE_SECONDS) == 0


def lines_of(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [generation_line_adapter.validate_json(line) for line in response.text.splitlines()]


def text_of(lines):
    return "".join(line.text for line in lines if isinstance(line, TokenDelta))


def error_of(response):
    return ErrorLine.model_validate_json(response.text).error


def test_an_answer_is_streamed_and_ends_with_usage_and_timing(house):
    spec = house.spec()
    lines = lines_of(house.post(spec))
    assert text_of(lines) == house.expected_text(spec)
    assert [line.finish_reason for line in lines if isinstance(line, TokenDelta)][-1] in {"stop", "length"}
    done = lines[-1]
    assert isinstance(done, Done)
    assert done.usage.prompt_tokens == len(encode_request(house.resident, spec, key=0).token_ids)
    assert 0 < done.usage.completion_tokens <= 12
    assert 0 <= done.timing.queued_ms <= done.timing.time_to_first_token_ms <= done.timing.total_ms


def test_requests_for_base_and_adapters_at_once_get_the_answers_they_get_alone(house):
    weights = [None, *(w for w, _ in house.adapters)]
    refs = [None, *(ref for _, ref in house.adapters)]
    texts = ["Hello", "My machine is broken, I want my money back.", "billing", "What is the capital of France?"]
    cases = [(text, i) for text in texts for i in range(3)]
    with ThreadPoolExecutor(len(cases)) as pool:
        answers = list(pool.map(lambda case: lines_of(house.post(house.spec(case[0], refs[case[1]]))), cases))
    for (text, i), lines in zip(cases, answers, strict=True):
        assert text_of(lines) == house.expected_text(house.spec(text, refs[i]), weights[i])
    assert house.health() == {"status": "ok", "running": 0, "waiting": 0}


def test_a_raw_prompt_is_echoed_with_its_scores(house):
    spec = GenerateSpec(
        base=house.base, prompt="My parcel", echo=True, sampling=SamplingSpec(max_new_tokens=0, logprobs=1)
    )
    scored, delta, done = lines_of(house.post(spec))
    assert isinstance(scored, PromptScored)
    assert scored.text == "My parcel"
    assert scored.logprobs[0].logprob is None
    assert all(entry.logprob < 0 for entry in scored.logprobs[1:])
    assert (delta.text, delta.finish_reason) == ("", "length")
    assert done.usage.completion_tokens == 0


@pytest.mark.parametrize("token", ["wrong", None, TOKEN + "x", "Bearer"])
def test_a_wrong_token_is_refused(house, token):
    response = house.post(house.spec(), token=token)
    assert response.status_code == 401
    assert error_of(response).code == "invalid_token"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"messages": None}, "invalid_request", "messages or prompt"),
        ({"messages": None, "prompt": [1, 99999]}, "invalid_prompt", "99999"),
        ({"messages": [{"content": "no role"}]}, "invalid_messages", "role"),
        ({"sampling": {"max_new_tokens": 9000}}, "context_length_exceeded", "8192"),
        ({"sampling": {"max_new_tokens": 2, "stop": [""]}}, "invalid_stop", "empty"),
        ({"sampling": {"max_new_tokens": 2, "logit_bias": {"5000": 1}}}, "invalid_logit_bias", "5000"),
        ({"sampling": {"max_new_tokens": -1}}, "invalid_request", "max_new_tokens"),
        ({"surprise": 1}, "invalid_request", "surprise"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(house, change, code, words):
    body = json.dumps(json.loads(house.spec().model_dump_json()) | change)
    response = house.post(body)
    assert response.status_code == 400
    assert error_of(response).code == code
    assert words in error_of(response).message


def test_an_adapter_that_changes_nothing_is_refused(house):
    _, ref = house.make_adapter("ft:lazy", 0)
    response = house.post(house.spec(adapter=ref))
    assert response.status_code == 400
    assert error_of(response).code == "adapter_inactive"


def test_an_adapter_whose_file_has_another_hash_is_refused(house):
    ref = house.adapters[0][1].model_copy(update={"sha256": "0" * 64})
    response = house.post(house.spec(adapter=ref))
    assert response.status_code == 503
    assert error_of(response).code == "adapter_hash_mismatch"


def test_a_client_that_goes_away_stops_the_work(house):
    endless = house.spec(max_new_tokens=8000, logit_bias={2: -100})
    with house.stream(endless) as response:
        lines = response.iter_lines()
        assert next(lines)
        assert house.health()["running"] == 1
    started = time.monotonic()
    while house.health()["running"]:
        assert time.monotonic() < started + 5, "the request is still running"


def test_a_short_request_does_not_wait_for_a_long_one(house):
    endless = house.spec(max_new_tokens=8000, logit_bias={2: -100})
    with house.stream(endless) as response:
        lines = response.iter_lines()  # held: when it goes, httpx closes the stream
        assert next(lines)
        assert isinstance(lines_of(house.post(house.spec("Hello")))[-1], Done)
        assert isinstance(lines_of(house.post(house.spec("Hello", house.adapters[0][1])))[-1], Done)
        assert house.health()["running"] == 1


def test_a_preview_does_not_wait_for_an_answer_being_generated_and_loads_no_model(house):
    # A base with the same tokenizer and no weights at all: nothing but its small files can be read.
    folder = house.folder / "weightless"
    shutil.copytree(house.base.path, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    base = house.base.model_copy(update={"path": str(folder), "weights_sha256": "0" * 64})
    row = chat_row(3, "My parcel is late.", "delivery")
    endless = house.spec(max_new_tokens=8000, logit_bias={2: -100})
    with house.stream(endless) as response:
        lines = response.iter_lines()  # held: when it goes, httpx closes the stream
        assert next(lines)
        answer = house.preview(PreviewSpec(base=base, rows=(row,), max_length=64))
        assert house.health()["running"] == 1
    assert answer.status_code == 200, answer.text
    (shown,) = Preview.model_validate_json(answer.content).rows
    learned = [segment.text for segment in shown.parts[0].segments if segment.is_trained]
    assert (shown.line, "".join(learned)) == (3, "delivery<|im_end|>")


def test_a_bad_preview_is_refused_with_its_reason(house):
    spec = PreviewSpec(base=house.base, rows=(chat_row(1, "a", "b"),), max_length=64)
    assert house.preview(spec, token="wrong").status_code == 401
    response = house.preview('{"kind": "preview"}')
    assert (response.status_code, error_of(response).code) == (400, "invalid_request")
    elsewhere = spec.base.model_copy(update={"path": "/nowhere", "weights_sha256": "1" * 64})
    response = house.preview(spec.model_copy(update={"base": elsewhere}))
    assert (response.status_code, error_of(response).code) == (400, "invalid_base")


def test_on_sigterm_open_answers_end_with_an_error_line_and_the_process_with_0(house, tmp_path):
    process, url = start_server(tmp_path)
    body = house.spec(max_new_tokens=8000, logit_bias={2: -100}).model_dump_json()
    first, last = threading.Event(), []

    def read():
        with httpx.stream(
            "POST", f"{url}/generate", content=body, headers=bearer(TOKEN), timeout=DEADLINE_SECONDS
        ) as response:
            for line in response.iter_lines():
                first.set()
                last[:] = [line]

    reader = threading.Thread(target=read)
    reader.start()
    assert first.wait(DEADLINE_SECONDS)
    process.send_signal(signal.SIGTERM)
    reader.join(DEADLINE_SECONDS)
    assert ErrorLine.model_validate_json(last[0]).error.code == "server_stopping"
    assert process.wait(timeout=DEADLINE_SECONDS) == 0


def test_without_a_token_only_loopback_is_served(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--host", "0.0.0.0", "--port", "0"])  # noqa: S104
    assert "--token-file" in capsys.readouterr().err


def test_an_empty_token_file_is_no_token(tmp_path, capsys):
    path = tmp_path / "token"
    path.write_text("\n")
    with pytest.raises(SystemExit, match="2"):
        main(["--port", "0", "--token-file", str(path)])
    assert "is empty" in capsys.readouterr().err
