"""Shows a preview: row by row with the learned text marked, then the sums and what to mend."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.preview_text import CONTROL, CUT, LEARNED, MARKS, REST, Line, turn_lines, visible

_WIDEST = 100
_GUTTER = 2
_NAMES = {
    "preferred": "preferred answer",
    "non_preferred": "answer to turn away from",
    "source": "source",
    "target": "target",
}
_SIDES = {"left": "the beginning", "middle": "the end of the source", "right": "the end"}
_LEARNED_UNITS = {"text_classification": "label ", "token_classification": "words "}


@dataclass(frozen=True)
class PreviewView:
    """`is_plain` marks with brackets in place of colours; `is_full` folds nothing."""

    console: Console
    is_plain: bool = False
    is_full: bool = False

    @property
    def width(self) -> int:
        return min(self.console.width, _WIDEST)

    def show(self, preview: Mapping[str, Any], name: str) -> None:
        """The whole answer of the service; `name` is the file's."""
        self._head(preview, name)
        if preview["faults"]:
            self.console.print()
        for fault in preview["faults"]:
            self._say("✗", fault["message"], "red")
        hidden = sum(preview["file"]["fault_counts"].values()) - len(preview["faults"])
        if hidden > 0:
            self._say("✗", f"… and {hidden} more faults", "red")
        for row in preview["rows"]:
            self._row(row, _LEARNED_UNITS.get(preview["format"], ""))
        self._sums(preview)
        if preview["warnings"]:
            self.console.print()
        for warning in preview["warnings"]:
            self._say("!", warning, "bold red")

    def _head(self, preview: Mapping[str, Any], name: str) -> None:
        counts = preview["file"]
        title = Text(visible(name), "bold")
        more = "" if counts["is_complete"] else "+"
        kind = (preview["format"] or "unknown format").replace("_", " ")
        title.append(f"  {counts['rows']}{more} rows, {kind}", "default not bold")
        self.console.print(title)
        self.console.print(Text(f"as {preview['base']} reads it, at most {preview['max_length']} tokens a row", REST))
        legend = Text()
        if self.is_plain:
            legend.append(f"{MARKS[0]}learned{MARKS[1]} read, not learned")
        else:
            legend.append("learned", LEARNED).append("  read, not learned", REST)
            legend.append("  control token", CONTROL)
        self.console.print(legend)

    def _row(self, row: Mapping[str, Any], unit: str) -> None:
        cut = sum(part["cut_tokens"] for part in row["parts"])
        facts = Text()
        if row["dropped"] is not None:
            facts.append("DROPPED", "bold red")
        else:
            facts.append(f"{row['tokens']} tokens")
            facts.append(" · ").append(f"{row['trained_tokens']} {unit}learned", LEARNED)
            if row["is_truncated"]:
                facts.append(" · ").append(f"{cut} LEFT OUT", CUT)
        title = Text(f"line {row['line']}", "bold")
        rule = "─" * max(3, self.width - title.cell_len - facts.cell_len - 8)
        self.console.print()
        self.console.print(Text.assemble(("── ", REST), title, (f" {rule} ", REST), facts, (" ──", REST)))
        if row["dropped"] is not None:
            self._say("", f"Nothing is learned from this row: {row['dropped']}.", "bold red")
            return
        shown: Sequence[Mapping[str, Any]] = ()
        for part in row["parts"]:
            self._part(part, shown)
            shown = part["segments"]
        if row["labels"] is not None:
            self._labels(row["labels"])

    def _part(self, part: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> None:
        """One sequence; what it begins with as the one `before` does (the prompt of two answers) is not repeated."""
        if part["name"] in _NAMES:
            facts = f": {part['tokens']} tokens, {part['trained_tokens']} learned"
            self._line("├─ ", Text.assemble((_NAMES[part["name"]], "bold"), facts))
        cut = Text(f"✂ {part['cut_tokens']} tokens do not fit and are left out ({_SIDES[part['cut_side']]})", CUT)
        same = sum(
            1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(part["segments"], before, strict=False))
        )
        if part["cut_tokens"] and not same and part["cut_side"] != "right":
            self._line("│ ", cut)
        if same:
            self._line("│ ", Text("… after the same prompt", "dim italic"))
        turns = itertools.groupby(part["segments"][same:], key=lambda segment: segment["turn"])
        for place, (_, segments) in enumerate(turns):
            if place:
                self._line("├╌╌╌", Text())
            self._lines(list(segments))
        if part["cut_tokens"] and part["cut_side"] == "right":
            self._line("│ ", cut)

    def _lines(self, segments: Sequence[Mapping[str, Any]]) -> None:
        width = self.width - _GUTTER
        lines = turn_lines(self.console, segments, width=width, is_plain=self.is_plain, is_full=self.is_full)
        for line in lines:
            self._gutter(line)

    def _gutter(self, line: Line) -> None:
        text = Text(line.text.plain) if self.is_plain else line.text
        self._line("┃ " if line.is_learned else "│ ", text, LEARNED if line.is_learned else REST)

    def _labels(self, labels: Sequence[str]) -> None:
        shown = ", ".join(visible(label) for label in labels) or "no label"
        text = (
            Text(f"label {MARKS[0]}{shown}{MARKS[1]}") if self.is_plain else Text.assemble("label ", (shown, LEARNED))
        )
        self._line("┃ ", text, LEARNED)

    def _line(self, gutter: str, text: Text, style: str = REST) -> None:
        self.console.print(Text.assemble((gutter, style), text), no_wrap=True, overflow="fold", crop=False)

    def _say(self, lead: str, sentence: str, style: str) -> None:
        """A sentence, its further lines indented behind the lead."""
        indent = len(lead) + 2 if lead else _GUTTER
        lines = Text(visible(sentence), style).wrap(self.console, self.width - indent)
        for place, line in enumerate(lines):
            self.console.print(Text.assemble((f"{lead}  " if lead and not place else " " * indent, style), line))

    def _sums(self, preview: Mapping[str, Any]) -> None:
        shown, counts = preview["shown"], preview["file"]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in ("", "rows", "tokens", "learned", "share", "cut", "dropped", "faulty"):
            table.add_column(column, justify="left" if not column else "right")
        share = shown["trained_tokens"] / shown["tokens"] if shown["tokens"] else 0.0
        table.add_row(
            "shown",
            *(f"{shown[name]:,}" for name in ("rows", "tokens", "trained_tokens")),
            "" if preview["format"] in _LEARNED_UNITS else f"{share:.1%}",
            *(f"{shown[name]:,}" for name in ("truncated_rows", "dropped_rows")),
            "",
        )
        table.add_row(
            "whole file" if counts["is_complete"] else "beginning",
            f"{counts['rows']:,}", "", "", "", "", "", f"{counts['faulty_rows']:,}",
        )  # fmt: skip
        self.console.print()
        self.console.print(table)
