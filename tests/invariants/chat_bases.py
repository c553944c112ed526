"""A resident base for each chat format: a tiny model with the family's tokenizer and template."""

from pathlib import Path

import torch
from transformers import GenerationConfig

from app.contracts.rows import ChatMessage, ChatRow
from app.contracts.specs import BaseRef, GenerateSpec, SamplingSpec
from tests.support.chat_formats import ChatFormat
from tests.support.format_tokenizers import build_format_tokenizer
from tests.support.tiny_models import build_tiny_model, hash_base_folder
from workers.engine.base_model import ResidentBase, load_base
from workers.engine.inference.requests import encode_request
from workers.engine.recipes.templates import decode, encode_row


def load_format_base(chat_format: ChatFormat, folder: Path) -> ResidentBase:
    """As a user's base comes: from a folder, its generation config naming the tokenizer's end token only."""
    tokenizer = build_format_tokenizer(chat_format)
    model = build_tiny_model(len(tokenizer))
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ref = BaseRef(id=chat_format.name, path=str(folder), weights_sha256=hash_base_folder(folder), context_length=512)
    return load_base(ref, torch.device("cpu"))


def conversation(chat_format: ChatFormat, *texts: str, learns: tuple[int, ...] | None = None) -> ChatRow:
    """User and assistant in turn, after a system message where the format has one; `learns`: answers with weight."""
    messages = [ChatMessage(role="system", content="Be brief.")] if chat_format.has_system else []
    for index, text in enumerate(texts):
        is_left_out = learns is not None and index % 2 and index // 2 not in learns
        messages.append(
            ChatMessage(role="assistant" if index % 2 else "user", content=text, weight=0 if is_left_out else None)
        )
    return ChatRow(line=1, messages=tuple(messages))


def learned_text(resident: ResidentBase, row: ChatRow) -> str:
    """What the row teaches, as text."""
    encoded = encode_row(resident.tokenizer, row, resident.stop_token_ids)
    return decode(resident.tokenizer, encoded.input_ids[encoded.is_supervised].tolist())


def wanted_text(chat_format: ChatFormat, row: ChatRow) -> str:
    """What the row should teach: every answer that has weight, with its stop token."""
    return "".join(
        chat_format.learned(message.content or "")
        for message in row.messages
        if message.role == "assistant" and message.weight != 0
    )


def served_prompt(resident: ResidentBase, row: ChatRow) -> tuple[int, ...]:
    """The tokens a server computes on when it is asked for the row's last answer."""
    spec = GenerateSpec(
        base=resident.ref,
        messages=tuple(message.model_dump(exclude_none=True) for message in row.messages[:-1]),
        sampling=SamplingSpec(max_new_tokens=1),
    )
    return encode_request(resident, spec, key=0).token_ids
