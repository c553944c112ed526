"""The pipe between supervisor and engine: commands in on stdin, reports out, one JSON object a line."""

import os
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO

from pydantic import ValidationError

from app.contracts.reports import Report, command_adapter
from app.contracts.specs import Command


class ReportWriter:
    """Writes whole lines to the pipe; safe to call from several threads."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def __call__(self, report: Report) -> None:
        line = report.model_dump_json().encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()


def claim_stdout() -> BinaryIO:
    """The supervisor's pipe, taken from fd 1; from now on everything printed goes to stderr."""
    sys.stdout.flush()
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def read_commands(file: BinaryIO) -> Iterator[Command | ValidationError]:
    """Commands until end of file; a line that is no command comes out as its error."""
    for line in file:
        if not line.strip():
            continue
        try:
            yield command_adapter.validate_json(line)
        except ValidationError as error:
            yield error
