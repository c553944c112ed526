"""The header of a safetensors file: checked against the file, and the parameters counted. No tensor is read.

Layout: 8 bytes little-endian header length, the header (JSON: name → dtype, shape, data_offsets), then the data.
"""

import json
import math
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_TENSORS = 100_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip


class BadSafetensors(ValueError):  # noqa: N818 - "bad safetensors" says it
    """What is wrong with the file, in words for its owner."""


def count_parameters(path: Path) -> int:
    """The number of values in all tensors of the file."""
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        header_bytes = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or header_bytes > min(MAX_HEADER_BYTES, file_bytes - 8):
            raise BadSafetensors("it has no safetensors header")
        raw = file.read(header_bytes)
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadSafetensors("its header is not JSON") from None
    if not isinstance(header, dict):
        raise BadSafetensors("its header is not a JSON object")
    header.pop("__metadata__", None)
    if not 0 < len(header) <= MAX_TENSORS:
        raise BadSafetensors(f"it must hold 1 to {MAX_TENSORS} tensors")
    tensors = sorted((_checked(name, entry) for name, entry in header.items()), key=lambda tensor: tensor[1])
    expected = 0
    for name, start, end, _ in tensors:
        if start != expected:
            raise BadSafetensors(f"the data of its tensor '{name[:100]}' overlap or leave a gap")
        expected = end
    if expected != file_bytes - 8 - header_bytes:
        raise BadSafetensors("it is shorter or longer than its header says")
    return sum(values for _, _, _, values in tensors)


def _checked(name: str, entry: Any) -> tuple[str, int, int, int]:
    """(name, start, end, number of values) of one tensor; its bytes must be as many as its shape asks for."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]} if dtype in _BITS:
            if all(type(size) is int and 0 <= size < 2**48 for size in shape) and 0 <= start <= end:
                values = math.prod(shape)
                if values * _BITS[dtype] == (end - start) * 8:
                    return name, start, end, values
    raise BadSafetensors(f"its header describes the tensor '{name[:100]}' wrongly")
