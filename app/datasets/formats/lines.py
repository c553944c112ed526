"""Physical lines of a byte stream, in bounded memory, and their strict decoding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_LINE_BYTES = 1_000_000
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_BLANKS = b" \t\r"


class LineFault(Exception):  # noqa: N818 - a fault of the user's file, named as in reports
    """A line that cannot be used. `check` names the kind of fault, `text` follows the line's name."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(text)
        self.check = check
        self.text = text


@dataclass(frozen=True, slots=True)
class RawLine:
    r"""A line without its \n. `content` is None if the line is longer than `MAX_LINE_BYTES`."""

    number: int
    content: bytes | None

    @property
    def is_blank(self) -> bool:
        return self.content is not None and not self.content.strip(_BLANKS)


def physical_lines(chunks: Iterable[bytes]) -> Iterator[RawLine]:
    r"""Lines of a byte stream, split on \n alone (U+2028 and its kin are text), blank ones included."""
    number = 1
    kept: list[bytes] = []
    kept_bytes = 0
    for chunk in chunks:
        *endings, rest = chunk.split(b"\n")
        for part in endings:
            yield _line(number, [*kept, part], kept_bytes + len(part))
            kept, kept_bytes = [], 0
            number += 1
        kept_bytes += len(rest)
        # A line already too long is counted on, not kept: memory stays bounded.
        kept = [*kept, rest] if kept_bytes <= MAX_LINE_BYTES else []
    if kept_bytes:
        yield _line(number, kept, kept_bytes)


def decode(line: RawLine, *, allows_bom: bool = False) -> str:
    """The text of a line; `LineFault` if it is too long, no UTF-8, or holds NUL. A BOM is dropped where allowed."""
    content = line.content
    if content is None:
        raise LineFault("line_too_long", f"is longer than {MAX_LINE_BYTES:,} bytes")
    if line.number == 1 and content.startswith(_BOM):
        if not allows_bom:
            raise LineFault(
                "byte_order_mark",
                "starts with a byte order mark (BOM, the bytes EF BB BF). Save the file as UTF-8 without BOM",
            )
        content = content.removeprefix(_BOM)
    if line.number == 1 and content.startswith(_WIDE_BOMS):
        raise LineFault("invalid_encoding", "starts with a UTF-16 byte order mark. Save the file as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise LineFault(
            "invalid_encoding", f"is not valid UTF-8: byte 0x{byte:02x} at position {error.start}"
        ) from None
    if "\x00" in text:
        raise LineFault("invalid_character", "contains a NUL character")
    return text


def _line(number: int, parts: list[bytes], length: int) -> RawLine:
    return RawLine(number, None if length > MAX_LINE_BYTES else b"".join(parts))
