"""Load a downloaded adapter with plain `peft`, without Tunesmith, and compare greedy answers.

    python docs/examples/load_with_peft.py BASE_FOLDER ADAPTER.tar ANSWERS.json

Needs torch, transformers and peft only. ANSWERS.json comes from `ask_service.py`.
Exit code 1 when any answer differs.
"""

import json
import sys
import tarfile
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(base_folder: str, archive: str, answers_path: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        config = next(Path(folder).rglob("adapter_config.json"))
        tokenizer = AutoTokenizer.from_pretrained(base_folder)
        base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16)
        model = PeftModel.from_pretrained(base, config.parent).eval()
    rows = json.loads(Path(answers_path).read_text("utf-8"))
    same = 0
    for row in rows:
        ids = tokenizer.apply_chat_template(
            row["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            output = model.generate(**ids, do_sample=False, max_new_tokens=24, pad_token_id=tokenizer.pad_token_id)
        answer = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        same += answer == row["answer"]
        if answer != row["answer"]:
            print(f"differs: service {row['answer']!r}, peft {answer!r}")
    print(f"{same} of {len(rows)} greedy answers are the same")
    return 0 if same == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
