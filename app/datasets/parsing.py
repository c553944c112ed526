"""One file of rows: infers its format from the first good row and turns each line into a row or its faults."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from app.contracts.rows import ChatRow
from app.datasets.formats.chat import parse_chat_row
from app.datasets.formats.completion import parse_completion_row
from app.datasets.formats.findings import Findings
from app.datasets.formats.jsonl import LineFault, RawLine, hint, parse_line, split_lines
from app.datasets.report import Fault, Format

_Kind = Literal["chat", "completion", "preference", "unknown"]
UNEXPECTED_FORMAT = "Unexpected file format, expected either prompt/completion pairs or chat messages."


class FileReader:
    """Reads one file once; `format`, `examples` and `is_preference` are final when `read` is exhausted."""

    def __init__(self) -> None:
        self.format: Format | None = None
        self.examples = 0
        self.is_preference = False

    def read(self, chunks: Iterable[bytes]) -> Iterator[ChatRow | Fault]:
        """Rows and faults in the order of the file; a row may have several faults. Ends early at preference data."""
        for line in split_lines(chunks):
            self.examples += 1
            findings = Findings()
            row = self._row(line, findings)
            if self.is_preference:
                return
            if row is not None:
                yield row
            for check, text in findings.found:
                yield Fault(line=line.number, check=check, message=self._message(text, line))

    def _row(self, line: RawLine, findings: Findings) -> ChatRow | None:
        try:
            value = parse_line(line)
        except LineFault as fault:
            findings.add(fault.check, f" {fault.text}")
            return None
        if not isinstance(value, dict):
            findings.add(
                "data_type",
                ": Expected file to have JSONL format, where every line is a JSON dictionary. "
                f'Line {line.number} is not a dictionary (HINT: line starts with: "{hint(line)}...").',
            )
            return None
        kind = _kind(value)
        if kind == "preference" and self.format is None:
            self.is_preference = True
            return None
        if kind == "unknown":
            # In a chat file, a row without messages is a chat row that lacks them.
            kind = self.format or "unknown"
        if kind == "unknown":
            missing = ' is missing key "messages". '
            findings.add("missing_messages_list", f"{missing}{UNEXPECTED_FORMAT}")
            return None
        if self.format is not None and kind != self.format:
            findings.add("mixed_format", f" is in the {kind} format, but the file began in the {self.format} format")
            return None
        return self._parsed(kind, value, line.number, findings)

    def _parsed(self, kind: _Kind, value: dict[str, Any], line: int, findings: Findings) -> ChatRow | None:
        if kind == "completion":
            row = parse_completion_row(value, line, findings)
            self.format = self.format or ("completion" if row else None)
        else:
            row = parse_chat_row(value, line, findings)
            self.format = self.format or ("chat" if row else None)
        return row

    def _message(self, text: str, line: RawLine) -> str:
        return f"Example {self.examples}{text} (line {line.number})"


def _kind(value: dict[str, Any]) -> _Kind:
    if "preferred_output" in value or "non_preferred_output" in value:
        return "preference"
    if "messages" in value:
        return "chat"
    if "prompt" in value or "completion" in value:
        return "completion"
    return "unknown"
