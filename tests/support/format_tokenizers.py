"""Tiny tokenizers as the families of `chat_formats` have them."""

import json
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from tests.support.chat_formats import ChatFormat
from tests.support.tiny_models import CORPUS


@cache
def build_format_tokenizer(chat_format: ChatFormat) -> PreTrainedTokenizerFast:
    """A tiny tokenizer with the control tokens of a family, byte-level or as SentencePiece's."""
    names = dict.fromkeys(
        name
        for name in (chat_format.bos, chat_format.eos, chat_format.turn_end, *chat_format.control)
        if name is not None
    )
    tokens = [
        AddedToken(name, special=True, normalized=False, rstrip=chat_format.swallows_space and name != chat_format.eos)
        for name in names
    ]
    backend = _sentencepiece() if chat_format.is_sentencepiece else _byte_level(chat_format.splits)
    backend.add_special_tokens(tokens)
    if chat_format.tokenizer_adds_bos and chat_format.bos is not None:
        bos = chat_format.bos
        backend.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=backend,
        bos_token=chat_format.bos,
        eos_token=chat_format.eos,
        pad_token=chat_format.eos,  # the usual choice, and the one that hides end tokens from careless masks
        extra_special_tokens=list(names),
    )
    tokenizer.chat_template = chat_format.template
    return tokenizer


def _byte_level(splits: str) -> Tokenizer:
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(splits), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(vocab_size=320, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    # Blank lines are one token, so that a prompt that ends in one and an answer that starts with one would merge.
    backend.train_from_iterator([*CORPUS, *["one\n\ntwo\n\n\nthree"] * 50], trainer)
    return backend


def _sentencepiece() -> Tokenizer:
    """BPE over pieces with a leading `▁` and a token for each byte, as Llama 2 and Mistral have it."""
    learner = Tokenizer(BPE())
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner.train_from_iterator(CORPUS, BpeTrainer(vocab_size=120, show_progress=False))
    model = json.loads(learner.to_str())["model"]
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    backend = Tokenizer(
        BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[tuple(merge) for merge in model["merges"]],
            byte_fallback=True,
            fuse_unk=True,
            unk_token="<unk>",
        )
    )
    backend.normalizer = learner.normalizer
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend
