"""API keys as text: how they are made, recognised, hashed and hinted at.

`tsk_<24 characters: id>_<43 characters: secret><6 characters: CRC-32 of all before>`, base 62. The prefix and the
checksum let secret scanners find a leaked key and let us refuse a mistyped one without asking the database. The
secret has 256 random bits, so one SHA-256 protects it; a slow hash would protect guessable secrets.
"""

import binascii
import hashlib
import re
from dataclasses import dataclass

from app.ids import Prefix, random_text

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(r"(tsk_[0-9A-Za-z]{24}_[0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_HINT_CHARACTERS = 4


@dataclass(frozen=True)
class NewKey:
    """A key at its birth: the only moment at which its text exists on our side."""

    id: str
    text: str


def make_key() -> NewKey:
    identity = random_text(24)
    body = f"tsk_{identity}_{random_text(43)}"
    return NewKey(id=f"{Prefix.KEY}{identity}", text=body + _checksum(body))


def is_mistyped(text: str) -> bool:
    """Whether `text` claims to be a key of ours (`tsk_`) but has the wrong length, alphabet or checksum."""
    if not text.startswith("tsk_"):
        return False
    match = _SHAPE.fullmatch(text)
    return match is None or _checksum(match[1]) != match[2]


def key_hash(text: str) -> bytes:
    """What is stored: 32 bytes of SHA-256."""
    return hashlib.sha256(text.encode()).digest()


def hint(text: str) -> str:
    """Enough for its owner to recognise a key, and no help to anybody else."""
    return f"…{text[-_HINT_CHARACTERS:]}" if len(text) > 4 * _HINT_CHARACTERS else "…"


def _checksum(body: str) -> str:
    value = binascii.crc32(body.encode("ascii"))
    characters = []
    for _ in range(6):
        value, digit = divmod(value, len(_DIGITS))
        characters.append(_DIGITS[digit])
    return "".join(reversed(characters))
