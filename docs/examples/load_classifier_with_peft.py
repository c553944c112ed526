"""A text classifier tuned by Tunesmith in plain peft: no code of Tunesmith's. Needs torch, transformers and peft.

    python load_classifier_with_peft.py BASE_FOLDER ADAPTER_FOLDER "a text" ["another" …]

BASE_FOLDER holds the base (an encoder), ADAPTER_FOLDER the unpacked archive of `tunesmith models download`.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer


def main(base: str, adapter: str, *texts: str) -> None:
    labels = json.loads((Path(adapter) / "tunesmith.json").read_text())["labels"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter).eval()
    # The head lies beside the adapter's weights, under names that peft passes over.
    head = load_file(Path(adapter) / "adapter_model.safetensors")
    inputs = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state.float()
    mask = inputs["attention_mask"][..., None].float()
    features = (hidden * mask).sum(1) / mask.sum(1)  # the mean over a text's tokens
    probabilities = torch.softmax(features @ head["head.weight"].T + head["head.bias"], dim=1)
    for text, row in zip(texts, probabilities, strict=True):
        best = int(row.argmax())
        print(f"{labels[best]}\t{row[best]:.4f}\t{text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
