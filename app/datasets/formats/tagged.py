"""Rows of token classification: tokens with tags, or a text with spans of characters."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from app.contracts.rows import Span, TaggedText
from app.datasets.formats.columns import TOKENS, Layout
from app.datasets.formats.findings import Findings
from app.datasets.formats.labelled import checked_label, checked_text
from app.datasets.formats.tags import TagFault, is_tag, join_tokens

_SHOWN_CHARACTERS = 40


def parse_tagged_row(
    value: dict[str, Any],
    layout: Layout,
    line: int,
    findings: Findings,
    *,
    token_lines: Sequence[int] | None = None,
) -> TaggedText | None:
    """The canonical row; None if there are findings."""
    if layout.first in TOKENS:
        tokens, tags = value[layout.first], value[layout.second]
        _check_tags(tokens, tags, layout, findings, token_lines)
        text, spans = ("", ()) if findings else _joined(tokens, tags, findings, token_lines)
    else:
        text = checked_text(value[layout.first], layout.first, findings)
        spans = _spans(value[layout.second], layout.second, text, findings)
    return None if findings else TaggedText(line=line, text=text, spans=spans)


def _check_tags(tokens: Any, tags: Any, layout: Layout, findings: Findings, token_lines: Sequence[int] | None) -> None:
    for column, items in ((layout.first, tokens), (layout.second, tags)):
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            hint = ". Write the tags' names, not their numbers" if items is tags else ""
            findings.add("data_type", f': "{column}" must be a list of strings{hint}')
    if findings:
        return
    if len(tokens) != len(tags):
        findings.add("length_mismatch", f" has {len(tokens)} {layout.first} but {len(tags)} {layout.second}")
    elif not tokens:
        findings.add("missing_content", f': "{layout.first}" is empty')
    for number, token in enumerate(tokens, 1):
        if not token:
            findings.add("missing_content", f", token {number} is empty", line=_line(token_lines, number))
    for number, tag in enumerate(tags, 1):
        if not is_tag(tag):
            findings.add(
                "invalid_tag",
                f", token {number}: the tag '{tag[:_SHOWN_CHARACTERS]}' is neither O nor a type behind B-, I-, E-, S-",
                line=_line(token_lines, number),
            )


def _joined(
    tokens: list[str], tags: list[str], findings: Findings, token_lines: Sequence[int] | None
) -> tuple[str, tuple[Span, ...]]:
    try:
        text, spans = join_tokens(tokens, tags)
    except TagFault as fault:
        findings.add("invalid_tag", f", token {fault.number}: {fault.text}", line=_line(token_lines, fault.number))
        return "", ()
    if not text.strip():
        findings.add("missing_content", " has no token that can be seen")
    _check_spans(spans, text, findings)
    return text, spans


def _line(token_lines: Sequence[int] | None, number: int) -> int | None:
    return None if token_lines is None or number > len(token_lines) else token_lines[number - 1]


def _spans(value: Any, column: str, text: str, findings: Findings) -> tuple[Span, ...]:
    if not isinstance(value, list):
        findings.add("data_type", f': "{column}" must be a list of {{"start": …, "end": …, "label": …}}')
        return ()
    spans: list[Span] = []
    for number, item in enumerate(value, 1):
        span = _span(item, f", span {number}", len(text), findings)
        if span is not None:
            spans.append(span)
    spans.sort(key=lambda span: (span.start, span.end))
    _check_spans(spans, text, findings)
    return tuple(spans)


def _span(value: Any, where: str, length: int, findings: Findings) -> Span | None:
    """One span, from a dictionary or from a list [start, end, label]."""
    if isinstance(value, list) and len(value) == 3:
        value = dict(zip(("start", "end", "label"), value, strict=True))
    if not isinstance(value, dict) or not {"start", "end", "label"} <= value.keys():
        findings.add("invalid_span", f'{where} must have the form {{"start": …, "end": …, "label": …}}')
        return None
    start, end = value["start"], value["end"]
    label = checked_label(value["label"], where, findings)
    if not _is_position(start) or not _is_position(end):
        findings.add("invalid_span", f"{where}: start and end must be whole numbers")
    elif not 0 <= start <= end <= length:
        findings.add(
            "invalid_span", f"{where} ({start} to {end}) does not lie in the text, which has {length} characters"
        )
    elif start == end:
        findings.add("invalid_span", f"{where} ({start} to {end}) is empty: end is the place after the last character")
    elif label is not None:
        return Span(start=start, end=end, label=label)
    return None


def _is_position(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_spans(spans: Sequence[Span], text: str, findings: Findings) -> None:
    """`spans` by ascending start."""
    for span in spans:
        if not text[span.start : span.end].strip():
            findings.add("invalid_span", f": the {span.label} span {span.start} to {span.end} holds spaces only")
    for one, other in pairwise(spans):
        if other.start < one.end:
            findings.add(
                "overlapping_spans",
                f": the {one.label} span {one.start} to {one.end} and the {other.label} span {other.start} to "
                f"{other.end} overlap",
            )
