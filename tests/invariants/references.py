"""The same losses by other means: transformers' own model, peft, padding, and plain autograd."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.invariants.recipe_runs import CHAT, PREFERENCES, SUMMARIES, TOKENS, RecipeJob
from workers.engine.base_model import ResidentBase


class Reference:
    """A base with an adapter as plain peft loads them, and a classifier's head beside it.

    `continues`: the run began from this adapter (the reference of its preferences), not from the base alone.
    """

    def __init__(self, job: RecipeJob, resident: ResidentBase, adapter: Path, *, continues: bool = False) -> None:
        self.job, self.resident, self.continues = job, resident, continues
        loader: Any = {"encoder": AutoModel, "decoder": AutoModelForCausalLM}.get(
            resident.family, AutoModelForSeq2SeqLM
        )
        plain = loader.from_pretrained(resident.ref.path, dtype=torch.float32, attn_implementation="eager")
        self.model: Any = peft.PeftModel.from_pretrained(plain, adapter, is_trainable=True)
        self.model.eval()
        saved = load_file(adapter / "adapter_model.safetensors")
        self.head = {name: saved[name].requires_grad_() for name in ("head.weight", "head.bias") if name in saved}

    def loss(self, rows: Any) -> torch.Tensor:
        """Mean loss over what the rows supervise, in one padded batch."""
        settings = self.job.settings
        encoded = self.job.open(self.resident).encode(rows, max_length=256, on_progress=lambda _done: None).rows
        if self.job is PREFERENCES:
            return self._preference_loss(encoded)
        if self.job is SUMMARIES:
            ids, mask = _padded([row.source_ids for row in encoded])
            targets, own = _padded([row.target_ids for row in encoded])
            return self.model(input_ids=ids, attention_mask=mask, labels=torch.where(own == 1, targets, -100)).loss
        ids, mask = _padded([row.input_ids for row in encoded])
        if self.job is CHAT:
            labels = torch.full_like(ids, -100)
            for place, row in enumerate(encoded):
                own = torch.from_numpy(row.is_supervised)
                labels[place, : row.tokens][own] = ids[place, : row.tokens][own]
            return self.model(input_ids=ids, attention_mask=mask, labels=labels).loss
        output = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        hidden = output.hidden_states[-1]
        if self.job is TOKENS:
            words = torch.cat([hidden[place, torch.from_numpy(row.places)] for place, row in enumerate(encoded)])
            targets = torch.cat([torch.from_numpy(row.tags) for row in encoded])
            return functional.cross_entropy(self._logits(words), targets)
        if self.resident.family == "encoder":
            pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        else:
            pooled = hidden[torch.arange(len(encoded)), mask.sum(1) - 1]
        if not settings.get("is_multi_label"):
            return functional.cross_entropy(self._logits(pooled), torch.tensor([row.labels[0] for row in encoded]))
        wanted = torch.zeros(len(encoded), len(settings["labels"]))
        for place, row in enumerate(encoded):
            wanted[place, list(row.labels)] = 1.0
        return functional.binary_cross_entropy_with_logits(self._logits(pooled), wanted)

    def _preference_loss(self, pairs: Any) -> torch.Tensor:
        """The formula of Rafailov et al. 2023, of whole rows' log-probabilities."""
        margins = self._answer_log_probabilities([p.preferred for p in pairs])
        margins = margins - self._answer_log_probabilities([p.other for p in pairs])
        with torch.no_grad(), nullcontext() if self.continues else self.model.disable_adapter():
            start = self._answer_log_probabilities([p.preferred for p in pairs])
            start = start - self._answer_log_probabilities([p.other for p in pairs])
        return -functional.logsigmoid(self.job.settings["dpo"].beta * (margins - start)).mean()

    def _answer_log_probabilities(self, rows: Any) -> torch.Tensor:
        ids, mask = _padded([row.input_ids for row in rows])
        log_p = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
        taken = log_p.gather(2, ids[:, 1:, None])[:, :, 0]
        return torch.stack(
            [
                taken[place, : row.tokens - 1][torch.from_numpy(row.is_supervised[1:])].sum()
                for place, row in enumerate(rows)
            ]
        )

    def _logits(self, features: torch.Tensor) -> torch.Tensor:
        return functional.linear(features, self.head["head.weight"], self.head["head.bias"])

    def gradients(self, rows: Any) -> dict[str, torch.Tensor]:
        """By the names of the adapter's file."""
        torch.autograd.backward(self.loss(rows))
        named: Callable[[str], str] = lambda name: name.replace(".default.", ".")  # noqa: E731
        found = {named(n): p.grad for n, p in self.model.named_parameters() if p.requires_grad}
        return {name: grad for name, grad in found.items() if grad is not None} | {
            name: leaf.grad for name, leaf in self.head.items() if leaf.grad is not None
        }


def _padded(rows: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, [rows, longest], padded on the right."""
    ids = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.from_numpy(row)
        mask[place, : len(row)] = 1
    return ids, mask
