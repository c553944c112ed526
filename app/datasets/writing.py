"""Writes canonical rows to local files, each with the hash of what was written."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.contracts.rows import Row
from app.datasets.division import Division


class RowFile:
    """One file of JSON lines. Use as a context; `sha256` and `rows` hold afterwards."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._digest = hashlib.sha256()
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, row: Row) -> None:
        line = row.model_dump_json().encode() + b"\n"
        self._file.write(line)
        self._digest.update(line)
        self.rows += 1


@dataclass(frozen=True)
class Sides:
    """The files of a split."""

    train: RowFile
    selection: RowFile
    heldout: RowFile


def write_sides(division: Division, training: Iterable[Row], validation: Iterable[Row] | None, folder: Path) -> Sides:
    """Each row of the training file goes to its side, each of the validation file is held out.

    There is no file of selection rows if there are none.
    """
    selected = {row.line for row in division.selection}
    withheld = {row.line for row in division.heldout} if validation is None else set()
    with (
        RowFile(folder / "train.jsonl") as train,
        RowFile(folder / "selection.jsonl") as selection,
        RowFile(folder / "heldout.jsonl") as heldout,
    ):
        for row in training:
            side = selection if row.line in selected else heldout if row.line in withheld else train
            side.write(row)
        for row in validation or ():
            heldout.write(row)
    if not selection.rows:
        selection.path.unlink()
    return Sides(train, selection, heldout)
