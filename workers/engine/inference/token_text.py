"""From token ids back to text, a token at a time, in whole UTF-8 characters."""

import codecs
import json
import re
from typing import Any

_BYTE_PIECE = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")


def _byte_level_alphabet() -> dict[str, int]:
    """The printable stand-ins that byte-level BPE (GPT-2) writes for the 256 bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class TokenText:
    """The bytes each token of a fast tokenizer stands for; special tokens stand for no bytes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        decoder = tokenizer.backend_tokenizer.decoder
        described = {} if decoder is None else json.loads(decoder.__getstate__())
        kinds = {described.get("type")} | {part["type"] for part in described.get("decoders", ())}
        self._alphabet = _byte_level_alphabet() if "ByteLevel" in kinds else None
        self._has_metaspace = bool(kinds & {"Metaspace", "ByteFallback"})
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.special_ids = frozenset(special | set(tokenizer.all_special_ids))
        self._cache: dict[int, bytes] = {}

    def bytes_of(self, token_id: int, *, show_special: bool = False) -> bytes:
        """The token's bytes, which may be part of a character; b"" for specials unless `show_special`."""
        if token_id in self.special_ids:
            return self._piece(token_id).encode() if show_special else b""
        found = self._cache.get(token_id)
        if found is None:
            found = self._cache[token_id] = self._bytes_of_piece(token_id)
        return found

    def label(self, token_id: int) -> str:
        """The token as people read it in logprobs: specials by name, stray bytes as U+FFFD."""
        return self.bytes_of(token_id, show_special=True).decode("utf-8", errors="replace")

    def _piece(self, token_id: int) -> str:
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        return piece if isinstance(piece, str) else ""  # ids between the vocabulary and the padded embedding

    def _bytes_of_piece(self, token_id: int) -> bytes:
        piece = self._piece(token_id)
        if self._alphabet is not None:
            values = [self._alphabet.get(character) for character in piece]
            known = [value for value in values if value is not None]
            return bytes(known) if len(known) == len(values) else piece.encode()
        if byte := _BYTE_PIECE.match(piece):
            return bytes([int(byte.group(1), 16)])
        if self._has_metaspace:
            return piece.replace("\u2581", " ").encode()
        text: str = self._tokenizer.decode([token_id])
        return text.encode()


class Utf8Stream:
    """Joins token bytes into text; an unfinished character stays inside until its last byte comes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, piece: bytes) -> str:
        """The characters completed by `piece`; bytes that can never be UTF-8 become U+FFFD."""
        return self._decoder.decode(piece)
