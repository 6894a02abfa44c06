"""[P] Small plots as SVG: lines or bars over labelled axes, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["bars", "lines"]

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 36, 56
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")


def lines(title: str, x: str, y: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Points joined by lines, both axes from zero.

    Args:
        title: Above it.
        x: Title of the axis.
        y: The same.
        series: Name to points in order of x; at least one point in all.
    """
    most_x = max(p[0] for points in series.values() for p in points) or 1.0
    most_y = _round_up(max(p[1] for points in series.values() for p in points))
    parts = _axes(title, x, y, most_y)
    for i in range(5):
        value = most_x * i / 4
        parts.append(_text(_across(value / most_x), HEIGHT - BOTTOM + 18, _short(value), "middle"))
    for n, (name, points) in enumerate(series.items()):
        colour = COLOURS[n % len(COLOURS)]
        at = [(_across(px / most_x), _up(py / most_y)) for px, py in points]
        path = " ".join(f"{ax:.1f},{ay:.1f}" for ax, ay in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{ax:.1f}" cy="{ay:.1f}" r="3" fill="{colour}"/>' for ax, ay in at]
        parts.append(_text(LEFT + 8, TOP + 14 * (n + 1), name, "start", colour))
    return _document(parts)


def bars(title: str, y: str, values: Mapping[str, float]) -> str:
    """One bar for each label, from zero."""
    most = _round_up(max(values.values()))
    parts = _axes(title, "", y, most)
    step = 1 / len(values)
    for n, (label, value) in enumerate(values.items()):
        left, top = _across(step * (n + 0.15)), _up(value / most)
        width, height = (WIDTH - LEFT - RIGHT) * step * 0.7, HEIGHT - BOTTOM - top
        box = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
        parts.append(f'<rect {box} fill="{COLOURS[0]}"/>')
        parts.append(_text(left + width / 2, HEIGHT - BOTTOM + 18, label, "middle"))
        parts.append(_text(left + width / 2, top - 4, _short(value), "middle"))
    return _document(parts)


def _axes(title: str, x: str, y: str, most_y: float) -> list[str]:
    parts = [_text(WIDTH / 2, 20, title, "middle"), _text(WIDTH / 2, HEIGHT - 12, x, "middle")]
    parts.append(f'<g transform="rotate(-90 14 {HEIGHT / 2})">{_text(14, HEIGHT / 2, y, "middle")}</g>')
    for i in range(5):
        value = most_y * i / 4
        at = _up(value / most_y)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>')
        parts.append(_text(LEFT - 6, at + 4, _short(value), "end"))
    return parts


def _document(parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    return "\n".join((head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *parts, "</svg>\n"))


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#24292f") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _across(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _up(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 8, 10 and their powers of ten, so that the axis has plain numbers."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 0.1
    while value < power:
        power /= 10
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value)


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:.3g}"
