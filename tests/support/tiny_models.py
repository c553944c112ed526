"""A tiny random Llama with a byte-level BPE tokenizer and a ChatML template, built in-process.

It behaves as SmolLM2-135M-Instruct does where that matters to us: pad token = end token,
a default system message, no generation marks in the template. `writes_bos=True` gives a
template that writes a BOS and a tokenizer that would add a second one.
"""

import hashlib
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.contracts.specs import BaseRef

BOS, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a tiny assistant<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CORPUS = (
    "Route the ticket to one queue: billing, delivery, returns, repair, app, account, other.",
    "system user assistant tool: the customer is not happy with the answer and asks again.",
    "My parcel is late. The machine is broken. I want my money back, please, and soon.",
    "What is the capital of France? The capital of France is Paris. Thank you for the help.",
)


def build_tiny_tokenizer(*, writes_bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of about 320 tokens; every text can be encoded and decoded."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=320,
        special_tokens=[BOS, START, END],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    if writes_bos:
        backend.post_processor = TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, backend.token_to_id(BOS))]
        )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token=BOS, eos_token=END, pad_token=END, unk_token=BOS
    )
    tokenizer.chat_template = ("{{ bos_token }}" if writes_bos else "") + CHAT_TEMPLATE
    return tokenizer


def build_tiny_model(
    vocab_size: int,
    *,
    hidden_size: int = 32,
    layers: int = 2,
    context_length: int = 512,
    seed: int = 0,
) -> LlamaForCausalLM:
    """A random Llama with grouped-query attention and tied embeddings, fp32, about 40k parameters."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.2,  # far from uniform logits, so that comparisons of outputs mean something
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    torch.random.set_rng_state(state)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def build_tiny_base(
    folder: Path,
    *,
    base_id: str = "tiny-llama",
    hidden_size: int = 32,
    layers: int = 2,
    context_length: int = 512,
    seed: int = 0,
    writes_bos: bool = False,
) -> BaseRef:
    """Write a base folder (safetensors, tokenizer, chat template) and return its reference."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tiny_tokenizer(writes_bos=writes_bos)
    model = build_tiny_model(
        len(tokenizer),
        hidden_size=hidden_size,
        layers=layers,
        context_length=context_length,
        seed=seed,
    )
    config = GenerationConfig(bos_token_id=0, eos_token_id=2, pad_token_id=2)  # type: ignore[no-untyped-call]
    model.generation_config = config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaseRef(
        id=base_id,
        path=str(folder),
        weights_sha256=hash_base_folder(folder),
        context_length=context_length,
    )


def hash_base_folder(folder: Path) -> str:
    """SHA-256 over the sorted (file name, file SHA-256) pairs, as `BaseRef.weights_sha256` says."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
