"""The real serving engine behind `HttpGenerator`, over real HTTP, with a tiny random base."""

import asyncio

import pytest

from app.chat.answers import collect, collect_all
from app.chat.chat_shape import AnswerHead
from app.chat.http_backend import HttpGenerator
from app.chat.text_shape import TextForm, text_completion
from app.contracts.specs import GenerateSpec, SamplingSpec
from app.errors import InvalidInput, Unavailable
from app.settings import Settings
from tests.support.serving_engine import TOKEN, serving_engine
from tests.support.tiny_models import build_tiny_base

PROMPT = "The machine is broken."


@pytest.fixture(scope="module")
def engine_url(tmp_path_factory):
    with serving_engine(tmp_path_factory.mktemp("engine")) as url:
        yield url


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_tiny_base(tmp_path_factory.mktemp("bases") / "tiny", context_length=128, writes_bos=True)


@pytest.fixture
def generator_settings(engine_url, tmp_path):
    return Settings.model_validate(
        {
            "database_url": "postgresql://",
            "redis_url": "redis://",
            "artifacts_url": tmp_path.as_uri(),
            "bases_dir": tmp_path,
            "scratch_dir": tmp_path,
            "server_url": engine_url,
            "server_token": TOKEN,
        }
    )


def run(settings, work):
    async def inner():
        generator = HttpGenerator(settings)
        try:
            return await work(generator)
        finally:
            await generator.aclose()

    return asyncio.run(inner())


def greedy(base, **fields):
    return GenerateSpec(base=base, sampling=SamplingSpec(max_new_tokens=8, temperature=0, logprobs=2), **fields)


def test_a_conversation_is_answered(generator_settings, base):
    spec = greedy(base, messages=({"role": "user", "content": PROMPT},), n=2)
    answer = run(generator_settings, lambda generator: collect(generator, spec))
    assert answer.choices[0].text == answer.choices[1].text != ""
    assert answer.usage.prompt_tokens > 10
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_an_echoed_prompt_is_scored_as_harnesses_read_it(generator_settings, base):
    specs = [greedy(base, prompt=PROMPT, echo=True), greedy(base, prompt="Paris", echo=True)]
    answers = run(generator_settings, lambda generator: collect_all(generator, specs))
    wire = text_completion(AnswerHead("cmpl-1", 0, "tiny", "fp"), answers, TextForm(logprobs=2))
    choice = wire["choices"][0]
    logprobs = choice["logprobs"]
    assert choice["text"].startswith(PROMPT)
    entries = zip(logprobs["tokens"], logprobs["text_offset"], strict=True)
    of_prompt = [(token, offset) for token, offset in entries if offset < len(PROMPT)]
    assert "".join(token for token, _ in of_prompt) == PROMPT
    assert all(PROMPT[offset:].startswith(token) for token, offset in of_prompt)
    assert len(logprobs["tokens"]) > len(of_prompt)
    assert all(value is not None and value < 0 for value in logprobs["token_logprobs"])
    assert wire["choices"][1]["text"].startswith("Paris")


def test_a_request_that_cannot_fit_is_refused_with_its_reason(generator_settings, base):
    spec = greedy(base, prompt=PROMPT * 50)
    with pytest.raises(InvalidInput, match="context is 128 tokens"):
        run(generator_settings, lambda generator: collect(generator, spec))


def test_a_wrong_token_is_an_installation_fault(generator_settings, base):
    spec = greedy(base, prompt=PROMPT)
    wrong = Settings.model_validate(generator_settings.model_dump() | {"server_token": "another"})
    with pytest.raises(Unavailable, match="TUNESMITH_SERVER_TOKEN"):
        run(wrong, lambda generator: collect(generator, spec))


def test_an_answer_that_is_left_early_frees_the_engine(generator_settings, base):
    endless = GenerateSpec(
        base=base, prompt=PROMPT, sampling=SamplingSpec(max_new_tokens=100, logit_bias={2: -100}, clip_to_context=True)
    )

    async def leave(generator):
        lines = generator.generate(endless)
        await anext(lines)
        await lines.aclose()
        return await collect(generator, greedy(base, prompt=PROMPT))

    assert run(generator_settings, leave).choices[0].text


def test_one_token_more_is_always_listed_even_if_it_ends_the_text(generator_settings, base):
    ending = GenerateSpec(
        base=base,
        prompt=PROMPT,
        echo=True,
        sampling=SamplingSpec(max_new_tokens=1, temperature=0, logprobs=1, logit_bias={2: 100}),
    )
    longer = greedy(base, prompt=PROMPT, echo=True)
    answers = run(generator_settings, lambda generator: collect_all(generator, [ending, longer]))
    wire = text_completion(AnswerHead("cmpl-1", 0, "tiny", "fp"), answers, TextForm(logprobs=1))
    ended, other = (choice["logprobs"] for choice in wire["choices"])
    assert wire["choices"][0]["text"] == PROMPT
    assert ended["tokens"][-1] == "<|im_end|>"
    assert ended["text_offset"][-1] == len(PROMPT)
    assert ended["token_logprobs"][:-1] == pytest.approx(other["token_logprobs"][: len(ended["tokens"]) - 1], abs=1e-5)
