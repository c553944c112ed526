"""Files that are on the disk when the call returns; large ones go there from where they lie, never through memory."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class TensorFile:
    """What becomes a safetensors file. Written before the tensors change again."""

    tensors: Mapping[str, Tensor]

    def write(self, path: Path) -> None:
        """Straight from the tensors' own memory; those on a GPU are copied to the host first."""
        save_file({name: t.detach().cpu().contiguous() for name, t in self.tensors.items()}, path, {"format": "pt"})


Contents = bytes | Path | TensorFile
"""What a file shall hold: these bytes, what another file holds, or tensors."""


def write_file(path: Path, contents: Contents) -> None:
    """Write a file and wait until it is on the disk."""
    match contents:
        case bytes():
            path.write_bytes(contents)
        case Path():
            shutil.copyfile(contents, path)
        case TensorFile():
            contents.write(path)
    sync(path)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
