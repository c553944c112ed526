"""Answers written on the GPU, greedily and in batches: those of the CPU."""

import pytest

from app.contracts.specs import SamplingSpec
from tests.gpu.conftest import ON_A_GPU, moved_adapter
from workers.engine.inference.generate import Ended, generate
from workers.engine.inference.prompts import Prompt

pytestmark = ON_A_GPU
TEXTS = (
    "My parcel is late.",
    "a",
    "The machine is broken. I want my money back, please, and soon. What is the capital of France?",
    "Route the ticket to one queue",
    "Thank you",
)


def answers(resident, texts, **sampling):
    adapter = moved_adapter(resident)
    spec = SamplingSpec(max_new_tokens=32, **{"temperature": 0, **sampling})
    prompts = [
        Prompt(i, tuple(resident.tokenizer(text, add_special_tokens=False)["input_ids"]), spec)
        for i, text in enumerate(texts)
    ]
    found = {i: [] for i in range(len(texts))}
    for event in generate(resident, adapter, prompts):
        if not isinstance(event, Ended):
            found[event.key] += event.line.token_ids
    return found


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 5}], ids=["greedy", "drawn"])
def test_in_fp32_a_batch_is_answered_as_on_the_cpu_token_by_token(on_cpu, on_gpu_fp32, sampling):
    ours = answers(on_gpu_fp32, TEXTS, **sampling)
    assert ours == answers(on_cpu, TEXTS, **sampling)
    assert sum(map(len, ours.values())) > 32


def test_in_bf16_a_row_is_answered_in_a_batch_and_alone(on_gpu, record_property):
    together = answers(on_gpu, TEXTS)
    alone = [answers(on_gpu, [text])[0] for text in TEXTS]
    equal = sum(together[i] == row for i, row in enumerate(alone))
    record_property("answers equal in a batch and alone", equal)
    # A batch of another size may round otherwise and turn a near tie; the first tokens are no tie here.
    assert all(together[i][:1] == row[:1] for i, row in enumerate(alone))
