"""Plots as SVG text: lines over time, and bars on a logarithmic scale. No library needed."""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 960, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 50, 50
_COLOURS = ("#1b6ca8", "#d1603d", "#5b8c5a")


def lines(
    path: Path,
    title: str,
    x_name: str,
    series: dict[str, Sequence[tuple[float, float]]],
    *,
    y_range: tuple[float, float],
) -> None:
    """One polyline a series."""
    right = max(x for points in series.values() for x, _ in points)
    low, high = y_range

    def place(x: float, y: float) -> str:
        return f"{_x(x / right):.1f},{_y((y - low) / (high - low)):.1f}"

    parts = [_head(title, list(series))]
    parts += [_grid(share, f"{low + share * (high - low):g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts += [_text(_x(day / right), _HEIGHT - 28, f"{day}", "middle") for day in range(0, int(right) + 1, 24)]
    parts.append(_text(_WIDTH / 2, _HEIGHT - 8, x_name, "middle"))
    for colour, points in zip(_COLOURS, series.values(), strict=False):
        drawn = " ".join(place(x, y) for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.3" points="{drawn}"/>')
    _write(path, parts)


def bars(path: Path, title: str, names: Sequence[str], series: dict[str, Sequence[float]]) -> None:
    """Groups of bars on a scale of powers of ten; values below 1 are drawn as 1."""
    top = math.ceil(math.log10(max(10.0, *(value for values in series.values() for value in values))))
    parts = [_head(title, list(series))]
    parts += [_grid(power / top, f"{10**power:g}") for power in range(top + 1)]
    step = (_WIDTH - _LEFT - _RIGHT) / len(names)
    width = 0.8 * step / len(series)
    for row, (colour, values) in enumerate(zip(_COLOURS, series.values(), strict=False)):
        for number, value in enumerate(values):
            y = _y(math.log10(max(1.0, value)) / top)
            x = _LEFT + number * step + 0.1 * step + row * width
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_y(0) - y:.1f}" fill="{colour}"/>'
            )
    for number, name in enumerate(names):
        if number % 5 == 0:
            parts.append(_text(_LEFT + (number + 0.5) * step, _HEIGHT - 28, name, "middle"))
    parts.append(_text(_WIDTH / 2, _HEIGHT - 8, "what the team asks for, in its shares of the pool", "middle"))
    _write(path, parts)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _head(title: str, names: list[str]) -> str:
    legend = "".join(
        f'<rect x="{_LEFT + 180 * number}" y="30" width="12" height="12" fill="{colour}"/>'
        + _text(_LEFT + 180 * number + 18, 40, name, "start")
        for number, (colour, name) in enumerate(zip(_COLOURS, names, strict=False))
    )
    return f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>{_text(_LEFT, 20, title, "start")}{legend}'


def _grid(share: float, label: str) -> str:
    y = _y(share)
    line = f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
    return line + _text(_LEFT - 6, y + 4, label, "end")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _write(path: Path, parts: list[str]) -> None:
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12" fill="#222">'
    )
    path.write_text("\n".join([opening, *parts, "</svg>"]) + "\n")
