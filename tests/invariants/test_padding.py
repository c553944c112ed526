"""No batch has padding, so a base's pad token plays no part: absent, shared with the end token, or out of range."""

import json

import pytest
import torch

from tests.invariants.recipe_runs import CHAT, TEXT, encode, make_spec, run
from tests.support.tiny_models import build_tiny_base
from workers.engine.base_model import load_base

CPU = torch.device("cpu")


@pytest.mark.parametrize("pad_token", [None, "<|endoftext|>", "<|vision_pad|>"], ids=["none", "bos", "unknown"])
def test_the_pad_token_of_a_base_changes_no_bit_of_the_result(tiny, tmp_path, pad_token):
    expected = run(tiny, make_spec(CHAT, tiny, tmp_path / "plain")).finished.adapter_sha256
    folder = tmp_path / "base"
    build_tiny_base(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("pad_token")
    path.write_text(json.dumps(settings | ({} if pad_token is None else {"pad_token": pad_token})))
    resident = load_base(tiny.ref.model_copy(update={"path": str(folder)}), CPU)
    assert resident.tokenizer.pad_token == pad_token
    assert run(resident, make_spec(CHAT, resident, tmp_path / "other")).finished.adapter_sha256 == expected


@pytest.mark.parametrize("job", [CHAT, TEXT], ids=lambda job: job.name)
def test_a_packed_batch_has_no_token_that_is_not_a_rows_own(job, resident):
    recipe, rows = encode(job, resident, job.make_rows(9))
    for batch in recipe.pack(rows, 200):
        own = [token for row in batch.rows for token in row.input_ids.tolist()]
        ids = batch.input_ids.tolist()
        assert len(ids) in {len(own), len(own) - len(batch.rows)}  # a decoder reads all but a row's last token
        assert batch.row_tokens == len(own)
