"""Scatter plots as SVG: quality over cost, with the front of points that nothing beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from medusa_core.viz.curve import nice_ticks

WIDTH, HEIGHT = 1000, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 260, 50, 55
GRID, LEADER = "#e2e5ea", "#aab2bf"
LINE = 15
"""Height of a label; they stand in a column on the right, each joined to its point."""


@dataclass(frozen=True)
class Point:
    """One dot: a cost (positive, drawn logarithmically), a quality, and what it is."""

    cost: float
    quality: float
    label: str
    marked: bool = False


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in quality at the same or a lower cost, cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def scatter(points: Sequence[Point], title: str, x_label: str, y_label: str) -> str:
    """An SVG document; the front is joined by a line, marked points are filled."""
    xs = [math.log10(p.cost) for p in points]
    ys = [p.quality for p in points]
    x_low, x_high = min(xs) - 0.08, max(xs) + 0.08
    pad = 0.06 * (max(ys) - min(ys) or 1)
    y_low, y_high = min(ys) - pad, max(ys) + pad

    def at(point: Point) -> tuple[float, float]:
        x = (math.log10(point.cost) - x_low) / (x_high - x_low)
        y = (point.quality - y_low) / (y_high - y_low)
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#282c34">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 26, title, "middle", 16),
        _text(WIDTH / 2, HEIGHT - 14, x_label, "middle"),
        _text(LEFT, TOP - 10, y_label),
    ]
    for value in nice_ticks(y_low, y_high):
        y = at(Point(10**x_low, value, ""))[1]
        parts += [_line(LEFT, y, WIDTH - RIGHT, y), _text(LEFT - 8, y + 4, f"{value:g}", "end")]
    for value in _log_ticks(x_low, x_high):
        x = at(Point(value, y_low, ""))[0]
        parts += [
            _line(x, TOP, x, HEIGHT - BOTTOM),
            _text(x, HEIGHT - BOTTOM + 18, f"{value:g}", "middle"),
        ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, front(points)))
    parts.append(f'<polyline points="{path}" fill="none" stroke="#c2410c" stroke-width="1.5"/>')
    ordered = sorted(points, key=lambda point: -point.quality)
    heights = spread([at(point)[1] for point in ordered], LINE, HEIGHT - BOTTOM)
    column = WIDTH - RIGHT + 40
    for point, height in zip(ordered, heights, strict=True):
        parts += [
            _line(*at(point), column - 6, height, LEADER),
            _text(column, height + 4, point.label),
        ]
    for point in ordered:
        x, y = at(point)
        fill = "#c2410c" if point.marked else "#64748b"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}"/>')
    return "\n".join([*parts, "</svg>", ""])


def spread(heights: Sequence[float], distance: float, lowest: float) -> list[float]:
    """Ascending heights moved as little downwards as keeps them apart, then up where they end."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + distance) if placed else height)
    for index in reversed(range(len(placed))):
        limit = lowest if index == len(placed) - 1 else placed[index + 1] - distance
        placed[index] = min(placed[index], limit)
    return placed


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    values = [float(f"{m}e{decade}") for decade in decades for m in (1, 2, 5)]
    return [value for value in values if low <= math.log10(value) <= high]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(text)}</text>"
