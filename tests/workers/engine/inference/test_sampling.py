import pytest
import torch

from app.contracts.specs import SamplingSpec
from workers.engine.inference.sampling import TokenSampler

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def draws(count=4000, **spec):
    sampler = TokenSampler(SamplingSpec(max_new_tokens=1, seed=5, **spec), 0)
    return torch.bincount(torch.tensor([sampler.draw(LOGITS) for _ in range(count)]), minlength=4) / count


def test_draws_follow_the_distribution():
    assert draws().tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


def test_a_lower_temperature_sharpens_the_distribution():
    expected = torch.softmax(LOGITS / 0.5, -1).tolist()
    assert draws(temperature=0.5).tolist() == pytest.approx(expected, abs=0.03)


def test_the_nucleus_keeps_the_fewest_tokens_that_reach_top_p():
    assert draws(top_p=0.6).tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert draws(top_p=0.4).tolist() == [1, 0, 0, 0]


def test_a_bias_bans_and_forces_tokens():
    assert draws(logit_bias={0: -100})[0] == 0
    assert draws(logit_bias={3: 100})[3] == 1


def test_penalties_lower_the_logits_of_drawn_tokens():
    sampler = TokenSampler(
        SamplingSpec(max_new_tokens=1, temperature=0, presence_penalty=0.3, frequency_penalty=0.15), 0
    )
    drawn = []
    for _ in range(3):
        drawn.append(sampler.draw(LOGITS))
        sampler.count(drawn[-1])
    # Token 0 falls from -0.69 to -1.14 and then -1.29; token 1 stands at -1.20.
    assert drawn == [0, 0, 1]
    assert torch.equal(LOGITS, torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])))
