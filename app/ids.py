"""Prefixed, unguessable ids, made in one place."""

import secrets
from enum import StrEnum

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# A random byte as a character. The last few bytes are left out, so that every character is as likely.
_CHARACTERS = bytes(ord(_ALPHABET[byte % 62]) for byte in range(256))
_LEFT_OUT = bytes(range(4 * 62, 256))


class Prefix(StrEnum):
    """What an id names. The prefixes of OpenAI's objects are OpenAI's."""

    FILE = "file-"
    JOB = "ftjob-"
    EVENT = "ftevent-"
    CHECKPOINT = "ftckpt_"
    TEAM = "team_"
    KEY = "key_"
    SERVICE_ACCOUNT = "svcacct_"
    USER = "user-"
    UPLOAD = "upload_"
    PART = "part_"
    PERMISSION = "cp_"
    CHAT_COMPLETION = "chatcmpl-"
    COMPLETION = "cmpl-"
    EVALUATION = "fteval_"
    REQUEST = "req_"
    EVAL = "eval_"
    EVAL_RUN = "evalrun_"
    OUTPUT_ITEM = "outputitem_"
    WEBHOOK_ENDPOINT = "whe_"
    WEBHOOK_DELIVERY = "whd_"
    WEBHOOK_EVENT = "evt_"
    PRICE = "price_"


def random_text(length: int) -> str:
    """`length` characters of base 62 (5.95 bits each) from the system's random source."""
    text = b""
    while len(text) < length:
        text += secrets.token_bytes(length + 8).translate(_CHARACTERS, _LEFT_OUT)
    return text[:length].decode()


def new_id(prefix: Prefix) -> str:
    """A fresh id: the prefix and 24 random characters (143 bits)."""
    return f"{prefix}{random_text(24)}"
