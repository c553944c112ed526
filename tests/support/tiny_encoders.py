"""A tiny random BERT with a WordPiece tokenizer, built in-process: the encoder of the tests."""

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

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


def build_tiny_encoder(folder: Path, *, base_id: str = "tiny-bert", seed: int = 0, layers: int = 2) -> BaseRef:
    """Write a base folder of a BERT of about 30k parameters and return its reference."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tiny_wordpiece()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=0,
        initializer_range=0.2,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = BertModel(config)
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaseRef(id=base_id, path=str(folder), weights_sha256=hash_base_folder(folder), context_length=128)
