"""Checks the files that lie beside a sentence encoder: they describe, and may not choose code."""

import re
from typing import Any

_MODULE = re.compile(r"sentence_transformers\.([a-z_]+\.)+(Transformer|Pooling|Normalize|Dense)")


class BadSentenceFile(ValueError):  # noqa: N818 - "bad sentence file" says it
    """What is wrong, as the end of a sentence about the file."""


def check_pooling(value: dict[str, Any]) -> None:
    """Which hidden states are averaged: only switches and sizes."""
    for key, item in value.items():
        if not isinstance(item, bool | int):
            raise BadSentenceFile(f"may hold only true, false and whole numbers; '{key[:60]}' is neither")


def check_modules(value: Any) -> None:
    """The steps after the encoder, by the names of their library's own classes. We read none of it."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadSentenceFile("is not a list of modules")
    for item in value:
        kind = item.get("type")
        if not isinstance(kind, str) or _MODULE.fullmatch(kind) is None:
            raise BadSentenceFile(f"names the module '{str(kind)[:60]}', with which a model would choose code to run")
