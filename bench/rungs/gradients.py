"""Our gradient beside that of plain transformers + peft in fp32, row by row. `python -m rungs.gradients CONFIG`.

For scale, the same difference for peft on a bf16 base. Adapters are equal and not zero.
"""

import sys
from typing import Any

import torch

from rungs.models import best_dtype
from rungs.ours import encoded, open_resident, open_seat
from rungs.rows import TokenRow, read_rows
from rungs.trainer import features, lora_model
from rungs.turns import EndOfTurnsError, Turns

_ROWS = 4


def main() -> None:
    turns = Turns(sys.argv[1])
    rows = [row for row in read_rows(turns.config["rows"]) if len(row.input_ids) <= 1024][:_ROWS]
    ours, adapter = _our_gradient(turns, rows)
    reference = _peft_gradient(turns, rows, adapter, torch.float32)
    figures = {"ours": _difference(ours, reference)}
    if best_dtype(turns.config["device"]) == torch.bfloat16:
        figures["peft_bf16"] = _difference(_peft_gradient(turns, rows, adapter, torch.bfloat16), reference)
    try:
        turns.before_step()
        turns.after_step(**figures)
        turns.before_step()
    except EndOfTurnsError:
        pass


def _our_gradient(turns: Turns, rows: list[TokenRow]) -> tuple[dict[str, torch.Tensor], Any]:
    from workers.engine.training import batches  # ours may be absent
    from workers.engine.training.lora import activate
    from workers.engine.training.loss import batch_loss

    resident = open_resident(turns.config["model"], turns.config["device"])
    adapter = open_seat(resident, rows, turns.config).adapter
    draw = torch.Generator().manual_seed(2)
    for b in adapter.B.values():
        b.copy_(torch.randn(b.shape, generator=draw) * 0.02)
    adapter.refresh()
    learned = sum(len(row.input_ids) - row.first_supervised for row in rows)
    for batch in batches.pack(tuple(encoded(rows)), 2048):
        with activate(resident.linears, adapter):
            torch.autograd.backward(batch_loss(resident, batch.to(resident.device)).nll_sum / learned)
    sides = {"lora_A": adapter.grad_a, "lora_B": adapter.grad_b}
    return {f"{n}.{s}": g.clone() for s, grads in sides.items() for n, g in grads.items()}, adapter


def _peft_gradient(turns: Turns, rows: list[TokenRow], adapter: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    model = lora_model(turns, dtype)
    parameters = {}
    for name in adapter.shapes:
        layer = model.get_submodule(f"base_model.model.{name}")
        for side, source in (("lora_A", adapter.A), ("lora_B", adapter.B)):
            weight = getattr(layer, side)["default"].weight
            weight.data.copy_(source[name])
            parameters[f"{name}.{side}"] = weight
    learned = sum(len(row.input_ids) - row.first_supervised for row in rows)
    device = turns.config["device"]
    for row in features(rows):
        ids, labels = (torch.tensor([row[key]], device=device) for key in ("input_ids", "labels"))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype != torch.float32):
            logits = model(input_ids=ids).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100, reduction="sum")
        torch.autograd.backward(loss / learned)
    return {name: weight.grad.float() for name, weight in parameters.items()}


def _difference(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """|found - wanted| / |wanted| over the whole gradient."""
    error = sum(float((found[n] - g).square().sum()) for n, g in wanted.items())
    return (error / sum(float(g.square().sum()) for g in wanted.values())) ** 0.5


if __name__ == "__main__":
    main()
