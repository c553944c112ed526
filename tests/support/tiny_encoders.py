"""A tiny random encoder, a BERT if nothing else is asked for, with a WordPiece tokenizer, built in-process."""

import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from app.contracts.specs import BaseRef
from tests.support.tiny_models import CORPUS, hash_base_folder

_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def build_tiny_wordpiece() -> PreTrainedTokenizerFast:
    """Lower-cased word pieces: half of the corpus's words, letters for the rest."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-@#"
    words = sorted({word for line in CORPUS for word in re.findall(r"[a-z]+", line.lower())})
    # Not trained: the trainer breaks ties at random, and every process is to have the same tokenizer.
    pieces = [*_SPECIAL.values(), *letters, *(f"##{letter}" for letter in letters), *words[::2]]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    cls, sep = backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **_SPECIAL)  # type: ignore[no-untyped-call]


def build_tiny_encoder(
    folder: Path,
    *,
    kind: str = "bert",
    base_id: str = "tiny-bert",
    seed: int = 0,
    layers: int = 2,
    context_length: int = 128,
) -> BaseRef:
    """Write a base folder of about 30k parameters, of a `kind` of encoder (transformers' model type)."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tiny_wordpiece()
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        # Some kinds count their positions from behind the padding index.
        "max_position_embeddings": context_length + (2 if "rob" in kind or kind == "camembert" else 0),
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    if kind == "distilbert":
        fields |= {"dim": 32, "n_layers": layers, "n_heads": 4, "hidden_dim": 64}
    if kind == "electra":
        fields |= {"embedding_size": 32}
    if kind == "modernbert":
        fields |= {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **fields))
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaseRef(id=base_id, path=str(folder), weights_sha256=hash_base_folder(folder), context_length=context_length)
