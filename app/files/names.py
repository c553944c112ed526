"""What a client calls its file: a label to show, never a path to use."""

import unicodedata

_MAX_CHARACTERS = 255


def safe_label(filename: str) -> str:
    """The last part of the name without control, format and unassigned characters, at most 255 long."""
    last = filename.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(character for character in last if not unicodedata.category(character).startswith("C"))
    return shown.strip()[:_MAX_CHARACTERS] or "file"


def content_disposition(filename: str) -> str:
    """An `attachment` header (RFC 6266) that any label survives."""
    ascii_name = "".join(c if c.isascii() and (c.isalnum() or c in " ._-()") else "_" for c in filename)
    encoded = "".join(
        chr(b) if (chr(b).isalnum() and b < 128) or chr(b) in "._-" else f"%{b:02X}" for b in filename.encode()
    )
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{encoded}"
