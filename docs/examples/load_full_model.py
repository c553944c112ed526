"""Turn a downloaded full fine-tuning into a model folder that transformers, vLLM and others load by themselves.

    python docs/examples/load_full_model.py BASE_FOLDER ADAPTER.tar MODEL_FOLDER

Needs torch, transformers and safetensors only. The archive holds every weight of the model by its name in
transformers; configuration and tokenizer come from the base. Exit code 1 when the weights are not of this base.
A classifier's archive has further tensors, `head.*` and `probe.*`: they are no part of the base and are left out.
"""

import sys
import tarfile
import tempfile
from pathlib import Path

from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer


def model_class(config: AutoConfig) -> type:
    if config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    is_decoder = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or ())
    return AutoModelForCausalLM if is_decoder else AutoModel


def main(base_folder: str, archive: str, model_folder: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        weights = load_file(next(Path(folder).rglob("adapter_model.safetensors")))
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith(("head.", "probe."))}
    dtype = next(iter(weights.values())).dtype
    model = model_class(AutoConfig.from_pretrained(base_folder)).from_pretrained(base_folder, dtype=dtype)
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    untouched = {name for name, _ in model.named_parameters()} - weights.keys()
    # An encoder is trained without its pooler.
    untouched = {name for name in untouched if not name.startswith("pooler.")}
    if unknown or untouched:
        print(f"not of this base: {len(unknown)} weights unknown, {len(untouched)} missing")
        return 1
    model.save_pretrained(model_folder)
    AutoTokenizer.from_pretrained(base_folder).save_pretrained(model_folder)
    print(f"{len(weights)} tensors written to {model_folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
