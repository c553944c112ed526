"""One file of rows: tells its syntax and format and turns each example into a row or its faults."""

from collections.abc import Iterable, Iterator
from typing import Any

from app.contracts.rows import Row
from app.datasets.formats import conll, jsonl, table
from app.datasets.formats.chat import parse_chat_row
from app.datasets.formats.columns import UNDERSTOOD, Layout, Unclear, chat_format, find_layout, shown
from app.datasets.formats.completion import parse_completion_row
from app.datasets.formats.examples import Example, HeaderFault
from app.datasets.formats.findings import Findings
from app.datasets.formats.labelled import parse_labelled_row
from app.datasets.formats.lines import physical_lines
from app.datasets.formats.pairs import parse_pair_row
from app.datasets.formats.preference import parse_preference_row
from app.datasets.formats.sniffing import Sniffed, sniff
from app.datasets.formats.tagged import parse_tagged_row
from app.datasets.report import Fault, Format
from app.datasets.tasks import Method, Task, format_of, is_fit, wire_name

UNEXPECTED_FORMAT = "Unexpected file format, expected either prompt/completion pairs or chat messages."
_IGNORED_KEPT = 20
_SHOWN_CHARACTERS = 80


class FileReader:
    """Reads one file once.

    `format`, `examples`, `refused` and `ignored_columns` are final when `read` is exhausted. `filename` is a hint to
    the syntax. `task` and `method` are the job's: rows of another kind end the reading, and `refused` names it.
    None stands for any. `is_broken_off`: the bytes were not read to their end.
    """

    def __init__(
        self, *, filename: str | None = None, task: str | None = None, method: Method | None = "supervised"
    ) -> None:
        self.format: Format | None = None
        self.examples = 0
        self.refused: Format | None = None
        self.is_broken_off = False
        self._filename = filename
        self._task = None if task is None else Task(task)
        self._method = method
        self._is_table = False
        self._ignored: dict[str, None] = {}

    @property
    def is_preference(self) -> bool:
        """The file holds preference pairs, which only the method dpo trains on."""
        return self.refused == "preference"

    @property
    def ignored_columns(self) -> tuple[str, ...]:
        """Columns that no row needed, in the order met, some of them. Chat rows have none: there they are faults."""
        return tuple(self._ignored)

    def read(self, chunks: Iterable[bytes]) -> Iterator[Row | Fault]:
        """Rows and faults in the order of the file; a row may have several faults. Ends early if `refused`."""
        try:
            sniffed = sniff(physical_lines(chunks), self._filename)
            self._is_table = sniffed.syntax == "table"
            for example in self._examples(sniffed):
                self.examples += 1
                row = self._row(example)
                if self.refused is not None:
                    self.is_broken_off = True
                    return
                if row is not None:
                    yield row
                for check, text, line in example.findings.found:
                    number = line or example.line
                    yield Fault(line=number, check=check, message=f"Example {self.examples}{text} (line {number})")
        except HeaderFault as fault:
            self.is_broken_off = True
            yield Fault(line=fault.line, check=fault.check, message=f"{fault.message} (line {fault.line})")

    def _examples(self, sniffed: Sniffed) -> Iterator[Example]:
        match sniffed.syntax:
            case "jsonl":
                return jsonl.parse_rows(sniffed.lines)
            case "conll":
                return conll.parse_rows(sniffed.lines)
            case "table":
                return table.parse_rows(sniffed.lines, sniffed.delimiter, format_of(self._task))

    def _row(self, example: Example) -> Row | None:
        value = example.value
        if value is None:
            return None
        found = self._find(value)
        file_format = found.format if isinstance(found, Layout) else found
        if isinstance(file_format, Unclear):
            example.findings.add(file_format.check, file_format.text)
        elif file_format is None:
            self._say_missing(value, example)
        elif self.format is None and not is_fit(file_format, self._task, self._method):
            self.refused = file_format
        elif self.format not in {None, file_format}:
            example.findings.add(
                "mixed_format",
                f" is in the {wire_name(file_format)} format, but the file began in the "
                f"{wire_name(self.format or file_format)} format",
            )
        else:
            row = _parse(value, found if isinstance(found, Layout) else None, file_format, example)
            if row is not None:
                self.format = file_format
            return row
        return None

    def _find(self, value: dict[str, Any]) -> Layout | Unclear | Format | None:
        """What a row is: OpenAI's keys come first, so that a chat row stays one."""
        names = frozenset(value)
        by_key = None if self._is_table else chat_format(names)
        wanted = self.format or format_of(self._task)
        layout = find_layout(names, wanted)
        if by_key in {"chat", "preference"} or (by_key == "completion" and (wanted is None or layout is None)):
            return by_key
        found = layout or find_layout(names)
        if isinstance(found, Layout):
            self._ignore(name for name in value if name not in {found.first, found.second})
        if found is None and self.format in {"chat", "completion", "preference"}:
            # In a chat file, a row without messages is a chat row that lacks them.
            return self.format
        return found

    def _ignore(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self._ignored) < _IGNORED_KEPT:
                self._ignored[name[:_SHOWN_CHARACTERS]] = None

    def _say_missing(self, value: dict[str, Any], example: Example) -> None:
        wanted = self.format or format_of(self._task)
        if wanted is not None:
            example.findings.add(
                "missing_columns",
                f" lacks columns. Found: {shown(value)}. The {wire_name(wanted)} format needs {UNDERSTOOD[wanted]}",
            )
            return
        others = "; ".join(
            UNDERSTOOD[kind] for kind in ("text_classification", "token_classification", "summarization")
        )
        example.findings.add(
            "missing_messages_list",
            f' is missing key "messages". {UNEXPECTED_FORMAT} Found: {shown(value)}. Other rows that are understood: '
            f"{others}",
        )


def _parse(value: dict[str, Any], layout: Layout | None, file_format: Format, example: Example) -> Row | None:
    line, findings = example.line, example.findings
    if layout is None:
        return _parse_openai(value, file_format, line, findings)
    if file_format == "text_classification":
        return parse_labelled_row(value, layout, line, findings)
    if file_format == "token_classification":
        return parse_tagged_row(value, layout, line, findings, token_lines=example.token_lines)
    return parse_pair_row(value, layout, line, findings)


def _parse_openai(value: dict[str, Any], file_format: Format, line: int, findings: Findings) -> Row | None:
    if file_format == "preference":
        return parse_preference_row(value, line, findings)
    if file_format == "completion":
        return parse_completion_row(value, line, findings)
    return parse_chat_row(value, line, findings)
