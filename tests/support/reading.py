"""Reads bytes as a dataset's reader would, for tests of formats."""

from dataclasses import dataclass

from app.contracts.rows import Row
from app.datasets.parsing import FileReader
from app.datasets.report import Fault


@dataclass
class ReadFile:
    """All that came of a file."""

    reader: FileReader
    rows: list[Row]
    faults: list[Fault]

    @property
    def checks(self) -> list[tuple[int, str]]:
        return [(fault.line, fault.check) for fault in self.faults]


def read(data: bytes | str, filename: str | None = None, *, chunk_bytes: int | None = None, **wanted) -> ReadFile:  # type: ignore[no-untyped-def]
    """`wanted`: `task`, `method`."""
    data = data if isinstance(data, bytes) else data.encode()
    step = chunk_bytes or max(1, len(data))
    reader = FileReader(filename=filename, **wanted)
    items = list(reader.read(data[start : start + step] for start in range(0, len(data), step)))
    rows = [item for item in items if not isinstance(item, Fault)]
    return ReadFile(reader, rows, [item for item in items if isinstance(item, Fault)])
