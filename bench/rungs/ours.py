"""Our loop, step for step as the engine runs it. `python -m rungs.ours CONFIG`."""

import os
import sys
import tempfile

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as `python -m workers.engine` sets it

import numpy as np
import torch

from rungs.models import SHAPES, load_model, load_tokenizer
from rungs.rows import TokenRow, read_rows
from rungs.turns import EndOfTurnsError, Turns


def main() -> None:
    turns = Turns(sys.argv[1])
    try:
        import pydantic  # noqa: F401 the contracts stand on it

        from workers.engine.machine import set_up_torch
        from workers.engine.training.loop import take_step
    except ImportError as error:
        turns.leave_out(f"needs {error.name}")
    set_up_torch()
    resident = open_resident(turns.config["model"], turns.config["device"])
    seat = open_seat(resident, read_rows(turns.config["rows"]), turns.config)
    try:
        while True:
            turns.before_step()
            before = seat.trained_tokens
            take_step(resident, seat)
            tokens = seat.trained_tokens - before
            turns.after_step(tokens=tokens, processed=tokens)
    except EndOfTurnsError:
        pass


def open_resident(model: str, device: str, dtype: torch.dtype | None = None):  # noqa: ANN201 the engine is optional here
    from app.contracts.specs import BaseRef
    from workers.engine import base_model
    from workers.engine.machine import pick_dtype
    from workers.engine.training import attention

    if dtype is not None:
        os.environ["TUNESMITH_ENGINE_DTYPE"] = str(dtype).removeprefix("torch.")
    where = torch.device(device)
    ref = BaseRef(id="bench", path=model, weights_sha256="0" * 64, context_length=8192)
    if model not in SHAPES:
        return base_model.load_base(ref, where)
    attention.register()
    kind = pick_dtype(where)
    network = load_model(model, device=device, dtype=kind, attention=attention.NAME)
    network.requires_grad_(False)
    return base_model.make_resident(ref, "decoder", network, load_tokenizer(model), dtype=kind, quantization="none")


def open_seat(resident, rows: list[TokenRow], config: dict):  # noqa: ANN001, ANN201 as above
    """A seat over rows that are tokens already, as `seats.open_seat` makes it from a file."""
    from app.contracts.specs import LoraSpec, OptimizerSpec, TrainSpec
    from workers.engine.recipes.chat import ChatRecipe
    from workers.engine.training import seats

    folder = tempfile.mkdtemp(prefix="bench-ours-")
    spec = TrainSpec(
        run_id="bench",
        base=resident.ref,
        train_rows="",
        train_rows_sha256="",
        output_dir=folder,
        lora=LoraSpec(rank=config["rank"], alpha=2 * config["rank"]),
        optimizer=OptimizerSpec(learning_rate=2e-4, schedule="constant"),
        batch_size=config["batch_size"],
        n_epochs=50,
        seed=1,
        max_length=8192,
        resume_checkpoint_seconds=1e9,
    )
    adapter = resident.linears.new_adapter(spec.lora)
    adapter.initialise(torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW([adapter.flat], lr=2e-4, weight_decay=0.0, fused=True)
    budget = config.get("token_budget") or (2048 if resident.device.type == "cpu" else 8192)
    return seats.Seat(
        spec=spec,
        recipe=ChatRecipe(resident),
        adapter=adapter,
        optimizer=optimizer,
        rows=tuple(encoded(rows)),
        valid_rows=(),
        selection_rows=(),
        token_budget=budget,
        report=lambda _report: None,
        should_stop=lambda: None,
    )


def encoded(rows: list[TokenRow]):  # noqa: ANN201 as above
    from workers.engine.recipes.templates import EncodedRow

    for number, row in enumerate(rows):
        mask = np.zeros(len(row.input_ids), dtype=np.bool_)
        mask[row.first_supervised :] = True
        yield EncodedRow(number + 1, np.asarray(row.input_ids, dtype=np.int32), mask)


if __name__ == "__main__":
    main()
