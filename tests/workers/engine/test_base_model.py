from types import SimpleNamespace

import pytest
import torch

from app.contracts.errors import WorkerFailure
from app.contracts.specs import BaseRef
from workers.engine.base_model import refuse_unsupported

REF = BaseRef(id="b", path="/b", weights_sha256="0", context_length=64)


def model(*, bias: bool = False, **config):
    head = torch.nn.Linear(4, 8, bias=bias)
    return SimpleNamespace(config=SimpleNamespace(**config), get_output_embeddings=lambda: head)


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (model(final_logit_softcapping=30.0), "final_logit_softcapping of 30.0"),
        (model(attn_logit_softcapping=50.0), "attn_logit_softcapping of 50.0"),
        (model(logits_scaling=8.0), "logits_scaling of 8.0"),
        (model(sliding_window=32), "a sliding window of 32 tokens in a context of 64"),
        (model(sliding_window=32, layer_types=["full_attention", "sliding_attention"]), "a sliding window"),
        (model(bias=True), "a bias in the output layer"),
    ],
)
def test_a_base_whose_mathematics_we_do_not_compute_is_refused_by_name(base, reason):
    with pytest.raises(WorkerFailure, match=reason) as failure:
        refuse_unsupported(base, REF)
    assert failure.value.error.code == "unsupported_base"


def test_a_window_or_scale_that_changes_nothing_is_accepted():
    refuse_unsupported(model(sliding_window=64, logits_scaling=1.0, final_logit_softcapping=None), REF)
    refuse_unsupported(model(sliding_window=32, layer_types=["full_attention"]), REF)
