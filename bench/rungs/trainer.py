"""Plain `transformers.Trainer` + `peft`, padded to the longest row. `python -m rungs.trainer CONFIG`.

A step is `batch_size` rows, `micro_batch` of them at a time.
`style` default: fp32, rows in random order. tuned: weights in bf16, autocast, `group_by_length`.
"""

import contextlib
import sys
import tempfile
from typing import Any

import torch

from rungs.models import LINEARS, load_model
from rungs.rows import TokenRow, read_rows
from rungs.turns import EndOfTurnsError, Turns


def lora_model(turns: Turns, dtype: torch.dtype) -> Any:
    try:
        from peft import LoraConfig, get_peft_model  # absent is an answer
    except ImportError as error:
        turns.leave_out(f"needs peft ({error})")
    config = turns.config
    model = load_model(config["model"], device=config["device"], dtype=dtype)
    model.config.use_cache = False
    return get_peft_model(model, LoraConfig(r=config["rank"], lora_alpha=2 * config["rank"], target_modules=LINEARS))


def pad(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Right padding to the longest row; padding is masked and not learned."""
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in rows])

    mask = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
    return {"input_ids": filled("input_ids", 0), "labels": filled("labels", -100), "attention_mask": torch.tensor(mask)}


def features(rows: list[TokenRow]) -> list[dict[str, list[int]]]:
    return [
        {
            "input_ids": row.input_ids,
            "labels": [-100] * row.first_supervised + row.input_ids[row.first_supervised :],
        }
        for row in rows
    ]


def counting(trainer_class: Any, turns: Turns) -> tuple[Any, Any]:
    """The trainer class with the tokens of each step counted, and the callback that keeps to the turns."""
    from transformers import TrainerCallback  # beside the trainer

    seen = {"tokens": 0, "processed": 0}

    class Counting(trainer_class):  # type: ignore[misc, valid-type]
        def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            ids, mask = inputs["input_ids"], inputs.get("attention_mask")
            seen["processed"] += ids.numel()
            seen["tokens"] += ids.numel() if mask is None else int(mask.sum())
            return super().training_step(model, inputs, *rest, **named)

    class InTurn(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            seen.update(tokens=0, processed=0)
            turns.before_step()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.after_step(**seen)

    return Counting, InTurn()


def common_arguments(turns: Turns) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(prefix="bench-trainer-"),
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "max_steps": 100_000,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 1,
        "use_cpu": turns.config["device"] == "cpu",
    }


def main() -> None:
    turns = Turns(sys.argv[1])
    tuned = turns.config["style"] == "tuned"
    try:
        import accelerate  # noqa: F401 Trainer wants it and says so late
        from transformers import Trainer, TrainingArguments  # with it
    except ImportError as error:
        turns.leave_out(f"needs accelerate ({error})")
    model = lora_model(turns, torch.bfloat16 if tuned else torch.float32)
    trainer_class, in_turn = counting(Trainer, turns)
    speed = {"bf16": True, "train_sampling_strategy": "group_by_length"} if tuned else {}
    arguments = TrainingArguments(
        per_device_train_batch_size=turns.config["micro_batch"],
        gradient_accumulation_steps=turns.config["batch_size"] // turns.config["micro_batch"],
        remove_unused_columns=False,
        **common_arguments(turns),
        **speed,
    )
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=features(read_rows(turns.config["rows"])),
        data_collator=pad,
        callbacks=[in_turn],
    )
    with contextlib.suppress(EndOfTurnsError):
        trainer.train()


if __name__ == "__main__":
    main()
