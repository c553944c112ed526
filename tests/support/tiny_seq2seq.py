"""Tiny random encoder-decoders of each architecture the engine knows, built in-process, with a byte-level tokenizer."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from app.contracts.specs import BaseRef
from tests.support.tiny_models import CORPUS, hash_base_folder

PAD, END, BEGIN = "<pad>", "</s>", "<s>"
PAD_ID, END_ID, BEGIN_ID = 0, 1, 2
ARCHITECTURES = ("t5", "t5-gated", "mt5", "bart", "mbart", "marian", "pegasus")


def build_pair_tokenizer(*, writes_begin: bool) -> PreTrainedTokenizerFast:
    """Texts end in </s>, as T5's do; with `writes_begin` they begin with <s> too, as BART's do."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=320, special_tokens=[PAD, END, BEGIN], initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A {END}" if writes_begin else f"$A {END}", special_tokens=[(END, END_ID), (BEGIN, BEGIN_ID)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token=BEGIN, eos_token=END, pad_token=PAD, unk_token=PAD
    )


def build_seq2seq_model(architecture: str, vocab_size: int) -> PreTrainedModel:
    """Two layers a half, width 32, fp32, far from uniform outputs."""
    ids: dict[str, Any] = {"pad_token_id": PAD_ID, "eos_token_id": END_ID, "bos_token_id": BEGIN_ID}
    t5 = ids | {
        "vocab_size": vocab_size,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,  # so that the rows reach beyond it
        "decoder_start_token_id": PAD_ID,
        "initializer_factor": 1.5,
    }
    bart = ids | {
        "vocab_size": vocab_size,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 256,
        "init_std": 0.4,
        "decoder_start_token_id": END_ID,
        "forced_eos_token_id": None,
    }
    makers: dict[str, Any] = {
        "t5": lambda: T5ForConditionalGeneration(T5Config(**t5)),
        "t5-gated": lambda: T5ForConditionalGeneration(
            T5Config(**t5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
        ),
        "mt5": lambda: MT5ForConditionalGeneration(MT5Config(**t5)),
        "bart": lambda: BartForConditionalGeneration(BartConfig(**bart, scale_embedding=True)),
        "mbart": lambda: MBartForConditionalGeneration(MBartConfig(**bart)),
        "marian": lambda: MarianMTModel(MarianConfig(**bart | {"decoder_start_token_id": PAD_ID})),
        "pegasus": lambda: PegasusForConditionalGeneration(PegasusConfig(**bart | {"decoder_start_token_id": PAD_ID})),
    }
    state = torch.random.get_rng_state()
    torch.manual_seed(5)
    model: PreTrainedModel = makers[architecture]()
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_(0, 0.5)  # as Marian's is: not zero
    torch.random.set_rng_state(state)
    return model


def build_seq2seq_base(folder: Path, architecture: str, *, context_length: int = 256) -> BaseRef:
    """Write a base folder and return its reference."""
    folder.mkdir(parents=True)
    tokenizer = build_pair_tokenizer(writes_begin=architecture == "bart")
    model = build_seq2seq_model(architecture, len(tokenizer))
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        pad_token_id=PAD_ID,
        eos_token_id=END_ID,
        decoder_start_token_id=END_ID if architecture == "mbart" else model.config.decoder_start_token_id,
        forced_bos_token_id=BEGIN_ID if architecture == "bart" else None,
        bad_words_ids=[[PAD_ID]] if architecture == "marian" else None,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaseRef(
        id=f"tiny-{architecture}",
        path=str(folder),
        weights_sha256=hash_base_folder(folder),
        context_length=context_length,
    )
