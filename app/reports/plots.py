"""Plots as SVG in the page itself: no script, no file, no network; readable without colours."""

import math
from collections.abc import Sequence
from html import escape

from app.contracts.figures import Calibration, Confusion

_INK, _SOFT, _BASE, _TUNED = "#1a1a1a", "#8a8a8a", "#7a8aa0", "#0b6e4f"


def intervals(rows: Sequence[tuple[str, tuple[float, float, float], tuple[float, float, float]]]) -> str:
    """(label, base (value, low, high), tuned …) on one scale that holds them all, its ends written under it."""
    width, left, line = 640, 190, 34
    every = [bounds for _, base, tuned in rows for bounds in (base, tuned)]
    first = math.floor(10 * min(low for _, low, _ in every)) / 10
    last = max(first + 0.1, math.ceil(10 * max(high for _, _, high in every)) / 10)
    scale = (width - left - 20) / (last - first)
    bottom = 20 + line * len(rows)
    parts = [
        f'<line x1="{left}" x2="{width - 20}" y1="{bottom}" y2="{bottom}" stroke="{_SOFT}"/>',
        _text(left, bottom + 16, f"{first:.1f}", anchor="middle"),
        _text(width - 20, bottom + 16, f"{last:.1f}", anchor="end"),
        _text(left + 60, bottom + 16, "base", anchor="start", colour=_BASE),
        _text(left + 100, bottom + 16, "tuned", anchor="start", colour=_TUNED),
    ]
    for place, (label, base, tuned) in enumerate(rows):
        y = 20 + place * line
        parts.append(_text(left - 8, y + 8, label, anchor="end"))
        for bounds, colour, dy in ((base, _BASE, 0), (tuned, _TUNED, 12)):
            value, low, high = (left + scale * (number - first) for number in bounds)
            parts.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + dy}" y2="{y + dy}" stroke="{colour}" stroke-width="2"/>'
                f'<circle cx="{value:.1f}" cy="{y + dy}" r="4" fill="{colour}"/>'
            )
    return _svg(width, bottom + 24, "Figures with their 95 % intervals; above base, below tuned", parts)


def reliability(base: Calibration | None, tuned: Calibration) -> str:
    """Accuracy over confidence in bins; on the diagonal a model is right as often as it is sure."""
    size, left = 260, 40
    parts = [
        f'<rect x="{left}" y="10" width="{size}" height="{size}" fill="none" stroke="{_SOFT}"/>',
        f'<line x1="{left}" y1="{10 + size}" x2="{left + size}" y2="10" stroke="{_SOFT}" stroke-dasharray="4 4"/>',
        _text(left + size / 2, size + 40, "confidence", anchor="middle"),
        _text(left - 6, 18, "1", anchor="end"),
        _text(left - 6, 10 + size, "0", anchor="end"),
        _text(left + size, size + 26, "1", anchor="end"),
    ]
    for found, colour in ((base, _BASE), (tuned, _TUNED)):
        if found is None:
            continue
        points = [(left + size * one.mean_confidence, 10 + size * (1 - one.accuracy), one.n) for one in found.bins]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 + min(5, n**0.5 / 8):.1f}" fill="{colour}"/>'
            for x, y, n in points
        ]
    return _svg(left + size + 10, size + 50, "Reliability: accuracy over confidence", parts)


def times(base: Sequence[float], tuned: Sequence[float]) -> str:
    """Every measured answer time as a mark on one line a model, in milliseconds."""
    width, left = 640, 70
    longest = max([*base, *tuned, 1e-9])
    scale = (width - left - 20) / longest
    parts = [_text(width - 20, 84, f"{longest:.0f} ms", anchor="end"), _text(left, 84, "0", anchor="middle")]
    for name, values, colour, y in (("base", base, _BASE, 20), ("tuned", tuned, _TUNED, 50)):
        parts.append(_text(left - 10, y + 4, name, anchor="end"))
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
        parts += [
            f'<line x1="{left + scale * value:.1f}" x2="{left + scale * value:.1f}" y1="{y - 8}" y2="{y + 8}" '
            f'stroke="{colour}" stroke-width="2" stroke-opacity="0.6"/>'
            for value in values
        ]
    return _svg(width, 92, "Time of each measured answer", parts)


def confusion(found: Confusion) -> str:
    """A table whose cells are the darker, the more of their row they hold; also in numbers."""
    heads = "".join(f"<th>{escape(label or 'no label')}</th>" for label in found.labels)
    lines = []
    for label, counts in zip(found.labels, found.counts, strict=True):
        total = max(1, sum(counts))
        cells = "".join(
            f'<td style="background: rgba(11,110,79,{count / total:.2f}); color: {_contrast(count / total)}">'
            f"{count or ''}</td>"
            for count in counts
        )
        lines.append(f"<tr><th>{escape(label or 'no label')}</th>{cells}</tr>")
    return f'<table class="confusion"><tr><th>expected \\ answered</th>{heads}</tr>{"".join(lines)}</table>'


def _contrast(share: float) -> str:
    return "#ffffff" if share > 0.5 else _INK


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, *, anchor: str, colour: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12" fill="{colour}">{escape(text)}</text>'
