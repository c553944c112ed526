import pytest
import torch
from transformers import GenerationConfig

from app.contracts.errors import WorkerFailure
from app.contracts.generation import PromptScored, TokenDelta
from app.contracts.specs import SamplingSpec
from workers.engine.inference.generate import Ended, RunningBatch, StepDelta, generate
from workers.engine.inference.prompts import Echo, Prompt
from workers.engine.training.lora import activate

TEXTS = (
    "My parcel is late.",
    "a",
    "The machine is broken. I want my money back, please, and soon. What is the capital of France?",
    "Route the ticket to one queue",
    "Thank you",
)


def tokens_of(resident, text):
    return tuple(resident.tokenizer(text, add_special_tokens=False)["input_ids"])


def greedy(max_new_tokens=24, **more):
    return SamplingSpec(max_new_tokens=max_new_tokens, temperature=0, **more)


def run(resident, adapter, prompts, **options):
    """Answers by (key, choice): text, token ids, logprobs, finish reason; and usage and prompt scores by key."""
    answers, usages, scored = {}, {}, {}
    for event in generate(resident, adapter, prompts, **options):
        if isinstance(event, Ended):
            assert event.key not in usages
            usages[event.key] = event.usage
        elif isinstance(event.line, PromptScored):
            scored[event.key] = event.line
        else:
            old = answers.setdefault((event.key, event.line.index), ["", [], [], None])
            assert old[3] is None, "nothing follows a finish reason"
            old[0] += event.line.text
            old[1] += event.line.token_ids
            old[2] += event.line.logprobs or ()
            old[3] = event.line.finish_reason
    return answers, usages, scored


@pytest.mark.parametrize("with_adapter", [False, True])
def test_greedy_answers_equal_transformers_generate(resident, adapter, with_adapter):
    active = adapter if with_adapter else None
    answers, _, _ = run(resident, active, [Prompt(i, tokens_of(resident, t), greedy()) for i, t in enumerate(TEXTS)])
    config = GenerationConfig(max_new_tokens=24, do_sample=False, eos_token_id=2, pad_token_id=2)
    for i, text in enumerate(TEXTS):
        ids = torch.tensor([tokens_of(resident, text)])
        with torch.inference_mode(), activate(resident.linears, active):
            mask = torch.ones_like(ids)
            expected = resident.model.generate(ids, attention_mask=mask, generation_config=config)[0, ids.shape[1] :]
        expected = [token for token in expected.tolist() if token != 2]
        assert answers[i, 0][1] == expected
        decoded = resident.tokenizer.decode(expected, skip_special_tokens=True)
        assert decoded.startswith(answers[i, 0][0])
        assert set(decoded[len(answers[i, 0][0]) :]) <= {"\ufffd"}  # a character cut at the end is left out


def test_the_adapter_changes_the_answers(resident, adapter):
    prompt = Prompt(0, tokens_of(resident, TEXTS[0]), greedy())
    assert run(resident, None, [prompt])[0] != run(resident, adapter, [prompt])[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_in_a_batch_equal_answers_alone(resident, adapter, temperature):
    sampling = SamplingSpec(max_new_tokens=20, temperature=temperature, top_p=0.9, seed=3, logprobs=2)
    prompts = [Prompt(i, tokens_of(resident, text), sampling) for i, text in enumerate(TEXTS)]
    together, usages, _ = run(resident, adapter, prompts)
    in_turns, _, _ = run(resident, adapter, prompts, max_rows=2)
    for prompt in prompts:
        alone, usage, _ = run(resident, adapter, [prompt])
        for other in (together, in_turns):
            assert other[prompt.key, 0][:2] == alone[prompt.key, 0][:2]
            got = [entry.logprob for entry in other[prompt.key, 0][2]]
            assert got == pytest.approx([entry.logprob for entry in alone[prompt.key, 0][2]], abs=1e-4)
        assert usages[prompt.key] == usage[prompt.key]


def test_equal_seeds_reproduce_and_choices_differ(resident):
    sampling = SamplingSpec(max_new_tokens=16, temperature=1.0, seed=11)
    ids = tokens_of(resident, TEXTS[0])
    first, usages, _ = run(resident, None, [Prompt(0, ids, sampling, n=3)])
    second, _, _ = run(resident, None, [Prompt(0, ids, sampling, n=3)])
    single, _, _ = run(resident, None, [Prompt(0, ids, sampling)])
    assert first == second
    assert single[0, 0] == first[0, 0]
    assert len({tuple(answer[1]) for answer in first.values()}) == 3
    assert usages[0].prompt_tokens == len(ids)
    other, _, _ = run(resident, None, [Prompt(0, ids, sampling.model_copy(update={"seed": 12}))])
    assert other[0, 0] != first[0, 0]


def test_a_drawn_end_token_ends_the_answer_with_stop_and_is_counted(resident):
    sampling = greedy(logit_bias={2: 1000.0})
    answers, usages, _ = run(resident, None, [Prompt(0, tokens_of(resident, "Hello"), sampling)])
    assert answers[0, 0] == ["", [], [], "stop"]
    assert usages[0].completion_tokens == 1


def test_a_stop_string_across_tokens_cuts_the_text_before_it(resident):
    prompt = Prompt(0, tokens_of(resident, TEXTS[2]), greedy(logprobs=0))
    whole = run(resident, None, [prompt])[0][0, 0]
    text = whole[0]
    start = next(i for i in range(3, len(text) - 3) if "\ufffd" not in text[i : i + 3])
    stop = text[start : start + 3]
    stopped = Prompt(0, prompt.token_ids, greedy(stop=("never there", stop), logprobs=0))
    answer = run(resident, None, [stopped])[0][0, 0]
    assert answer[0] == text[: text.index(stop)]
    assert answer[3] == "stop"
    assert answer[1] == whole[1][: len(answer[1])]
    assert [entry.token_id for entry in answer[2]] == answer[1]
    assert all(entry.text_offset < len(answer[0]) for entry in answer[2])


def test_logprobs_are_a_distribution_and_greedy_is_its_top(resident):
    prompt = Prompt(0, tokens_of(resident, TEXTS[0]), greedy(8, logprobs=20))
    entries = run(resident, None, [prompt])[0][0, 0][2]
    assert len(entries) == 8
    for entry in entries:
        assert entry.token_id == entry.top[0].token_id
        assert entry.logprob == pytest.approx(entry.top[0].logprob)
        logprobs = [top.logprob for top in entry.top]
        assert len(logprobs) == 20
        assert logprobs == sorted(logprobs, reverse=True)
        assert sum(2.718281828459045**value for value in logprobs) <= 1 + 1e-6
        assert bytes(entry.bytes).decode("utf-8", errors="replace") == entry.token


@pytest.mark.parametrize("max_new_tokens", [0, 3])
def test_echo_scores_equal_a_direct_forward(resident, adapter, max_new_tokens):
    ids = tokens_of(resident, TEXTS[2])
    prompt = Prompt(5, ids, greedy(max_new_tokens, logprobs=3), echo=Echo(TEXTS[2]))
    others = [Prompt(i, tokens_of(resident, TEXTS[i]), greedy(4)) for i in (0, 1)]
    answers, usages, scored = run(resident, adapter, [*others, prompt])
    with torch.inference_mode(), activate(resident.linears, adapter):
        direct = torch.log_softmax(resident.model(torch.tensor([ids])).logits[0].float(), -1)
    entries = scored[5].logprobs
    assert entries[0].logprob is None
    assert entries[0].top is None
    expected = [float(direct[i, token]) for i, token in enumerate(ids[1:])]
    assert [entry.logprob for entry in entries[1:]] == pytest.approx(expected, abs=1e-4)
    assert [entry.text_offset for entry in entries] == [
        len(resident.tokenizer.decode(list(ids[:i]))) for i in range(len(ids))
    ]
    assert scored[5].text == TEXTS[2]
    assert usages[5].completion_tokens == max_new_tokens
    assert answers[5, 0][3] == "length"
    if max_new_tokens:
        assert answers[5, 0][2][0].text_offset == len(TEXTS[2])


def test_penalties_keep_tokens_from_repeating(resident):
    ids = tokens_of(resident, TEXTS[0])
    sampling = SamplingSpec(max_new_tokens=30, temperature=0, presence_penalty=2, logit_bias={2: -100})
    plain = run(resident, None, [Prompt(0, ids, greedy(30, logit_bias={2: -100}))])[0][0, 0][1]
    varied = run(resident, None, [Prompt(0, ids, sampling)])[0][0, 0][1]
    assert len(set(varied)) > len(set(plain))


def test_too_long_a_prompt_is_refused_with_the_numbers(resident):
    ids = tokens_of(resident, "a") * 500
    with pytest.raises(WorkerFailure, match=r"500 tokens and 24 more.*524 in all.*512 tokens.*at most 12") as caught:
        run(resident, None, [Prompt(0, ids, greedy())])
    assert caught.value.error.code == "context_length_exceeded"
    clipped = greedy(24, clip_to_context=True, logit_bias={2: -100})
    answers, _, _ = run(resident, None, [Prompt(0, ids, clipped)])
    assert len(answers[0, 0][1]) == 12
    assert answers[0, 0][3] == "length"


def test_rows_can_join_and_be_cancelled_in_mid_flight(resident):
    sampling = greedy(30, logit_bias={2: -100})
    prompts = [Prompt(i, tokens_of(resident, text), sampling) for i, text in enumerate(TEXTS[:3])]
    alone = {p.key: run(resident, None, [p])[0][p.key, 0][1] for p in prompts}
    batch = RunningBatch(resident, None)
    got = {p.key: [] for p in prompts}

    def take(events):
        for event in events:
            if isinstance(event, StepDelta) and isinstance(event.line, TokenDelta):
                got[event.key] += event.line.token_ids

    take(batch.admit(prompts[:2]))
    for _ in range(5):
        take(batch.step())
    batch.cancel(0)
    take(batch.admit(prompts[2:]))
    while not batch.is_idle:
        take(batch.step())
    assert got[1] == alone[1]
    assert got[2] == alone[2]
    assert len(got[0]) < len(alone[0])
    assert got[0] == alone[0][: len(got[0])]


def test_the_token_that_ends_an_answer_comes_apart_from_the_text(resident):
    sampling = greedy(logit_bias={2: 1000.0}, logprobs=1)
    events = list(generate(resident, None, [Prompt(0, tokens_of(resident, "Hello"), sampling)]))
    assert isinstance(events[0], StepDelta)
    line = events[0].line
    assert (line.text, line.token_ids, line.logprobs, line.finish_reason) == ("", (), (), "stop")
    assert (line.ending.token_id, line.ending.token, line.ending.text_offset) == (2, "<|im_end|>", 0)
    assert line.ending.logprob < 0


def test_a_long_allowance_does_not_keep_others_from_joining(resident):
    batch = RunningBatch(resident, None, max_cache_tokens=1100)
    ids = tokens_of(resident, "Hello")
    long = Prompt(0, ids, greedy(10_000, clip_to_context=True))
    assert batch.has_room(long)
    assert batch.has_room(Prompt(1, ids, greedy(8)), [long])
    assert not batch.has_room(Prompt(2, ids, greedy(8), n=3), [long])
