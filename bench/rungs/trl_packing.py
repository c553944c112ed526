"""TRL's `SFTTrainer` with packing to 1024 tokens. `python -m rungs.trl_packing CONFIG`.

`style` default: as TRL sets it (bf16, activation checkpointing on). tuned: checkpointing off.
A step has as many packs as hold `batch_size` rows of this data on average. TRL cuts rows longer than a pack.
"""

import contextlib
import sys

import torch

from rungs.models import best_dtype, load_tokenizer
from rungs.rows import read_rows
from rungs.trainer import common_arguments, counting, features, lora_model
from rungs.turns import EndOfTurnsError, Turns

PACK = 1024


def main() -> None:
    turns = Turns(sys.argv[1])
    try:
        from datasets import Dataset  # absent is an answer
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        turns.leave_out(f"needs trl; name an interpreter that has it with --python ({error})")
    rows = read_rows(turns.config["rows"])
    mean = sum(len(row.input_ids) for row in rows) / len(rows)
    packs = max(1, round(turns.config["batch_size"] * mean / PACK))
    dtype = best_dtype(turns.config["device"])
    model = lora_model(turns, dtype)
    trainer_class, in_turn = counting(SFTTrainer, turns)
    checkpointing = {} if turns.config["style"] == "default" else {"gradient_checkpointing": False}
    arguments = SFTConfig(
        per_device_train_batch_size=packs,
        packing=True,
        max_length=PACK,
        bf16=dtype == torch.bfloat16,
        dataset_num_proc=None,
        **checkpointing,
        **common_arguments(turns),
    )
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(features(rows)),
        processing_class=load_tokenizer(turns.config["model"]),
        callbacks=[in_turn],
    )
    with contextlib.suppress(EndOfTurnsError):
        trainer.train()


if __name__ == "__main__":
    main()
