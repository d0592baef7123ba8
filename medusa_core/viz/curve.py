"""Line plots of learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from medusa_core.viz._text import font, text_size
from medusa_core.viz.colours import palette

Points = Sequence[tuple[float, float]]

_PAPER, _INK, _FAINT = (255, 255, 255), (40, 44, 52), (226, 229, 234)
_OVERSAMPLE = 2


def curve(
    series: Mapping[str, Points],
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    size: tuple[int, int] = (360, 560),
    x_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Plot series of points as lines, with axes, round ticks and a legend.

    Args:
        series: name → (x, y) points in the order they are joined; points that are not finite
            break the line. The legend leaves out a series named "".
        title: text above the plot.
        x_label: text below the plot.
        y_label: text above the vertical axis.
        size: (height, width) of the picture in pixels.
        x_range: ends of the horizontal axis; None: those of the points.

    Returns:
        `(*size, 3) uint8`; axes without ticks where no point is finite.
    """
    height, width = size
    canvas = Image.new("RGB", (width * _OVERSAMPLE, height * _OVERSAMPLE), _PAPER)
    plot = _Plot(canvas, series, x_range)
    plot.texts(title, x_label, y_label)
    plot.grid()
    for index, points in enumerate(series.values()):
        plot.line(points, tuple(int(c) for c in palette(index + 1)[index]))
    plot.legend(list(series))
    return np.array(canvas.resize((width, height), Image.Resampling.LANCZOS))


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten within `[low, high]`."""
    step = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(step))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= step * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


class _Plot:
    """One plot being drawn, in oversampled pixels."""

    def __init__(
        self,
        canvas: Image.Image,
        series: Mapping[str, Points],
        x_range: tuple[float, float] | None,
    ) -> None:
        self.draw = ImageDraw.Draw(canvas)
        self.unit = _OVERSAMPLE
        self.face = font(12 * self.unit)
        self.bold = font(14 * self.unit)
        finite = [p for points in series.values() for p in points if _finite(p)]
        self.x_range = _widen(x_range or [x for x, _ in finite], 0.0)
        self.y_range = _widen([y for _, y in finite], 0.06)
        self.empty = not finite
        self.y_ticks = [] if self.empty else nice_ticks(*self.y_range)
        self.x_ticks = [] if self.empty else nice_ticks(*self.x_range)
        labels = [text_size(_number(t), self.face)[0] for t in self.y_ticks]
        self.left = 14 * self.unit + max(labels, default=20)
        self.top = 48 * self.unit
        self.right = canvas.width - 20 * self.unit
        self.bottom = canvas.height - 44 * self.unit

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixel of a point."""
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )

    def texts(self, title: str, x_label: str, y_label: str) -> None:
        """Title and names of the axes."""
        gap = 8 * self.unit
        self.draw.text((gap, gap), title, font=self.bold, fill=_INK)
        self.draw.text((gap, self.top - 2 * gap), y_label, font=self.face, fill=_INK, anchor=None)
        middle = (self.left + self.right) / 2 - text_size(x_label, self.face)[0] / 2
        self.draw.text((middle, self.bottom + 2.6 * gap), x_label, font=self.face, fill=_INK)

    def grid(self) -> None:
        """Faint lines at the ticks, the axes, and the numbers beside them."""
        gap = 5 * self.unit
        line = text_size("0", self.face)[1]
        for tick in self.y_ticks:
            y = self.at(self.x_range[0], tick)[1]
            self.draw.line([(self.left, y), (self.right, y)], fill=_FAINT, width=self.unit)
            text = _number(tick)
            start = self.left - gap - text_size(text, self.face)[0]
            self.draw.text((start, y - 0.62 * line), text, font=self.face, fill=_INK)
        for tick in self.x_ticks:
            x = self.at(tick, self.y_range[0])[0]
            self.draw.line([(x, self.bottom), (x, self.bottom + gap)], fill=_INK, width=self.unit)
            text = _number(tick)
            half = text_size(text, self.face)[0] / 2
            self.draw.text((x - half, self.bottom + gap), text, font=self.face, fill=_INK)
        axes = [(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)]
        self.draw.line(axes, fill=_INK, width=self.unit)

    def line(self, points: Points, colour: tuple[int, ...]) -> None:
        """One series; a point that stands alone is a dot."""
        part: list[tuple[float, float]] = []
        for point in [*points, (math.nan, math.nan)]:
            if _finite(point):
                part.append(self.at(*point))
                continue
            if len(part) > 1:
                self.draw.line(part, fill=colour, width=2 * self.unit, joint="curve")
            dots = part if len(part) <= 20 else part[-1:]
            for x, y in dots:
                r = 2.2 * self.unit
                self.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
            part = []

    def legend(self, names: Sequence[str]) -> None:
        """Names of the series in one line above the plot, at the right."""
        gap = 6 * self.unit
        x = float(self.right)
        y = self.top - 4.4 * gap
        line = text_size("0", self.face)[1]
        for index, name in reversed([pair for pair in enumerate(names) if pair[1]]):
            x -= text_size(name, self.face)[0]
            self.draw.text((x, y), name, font=self.face, fill=_INK)
            colour = tuple(int(c) for c in palette(index + 1)[index])
            middle = y + 0.62 * line
            ends = [(x - 4 * gap, middle), (x - gap, middle)]
            self.draw.line(ends, fill=colour, width=3 * self.unit)
            x -= 6 * gap


def _finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _widen(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-12):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    extra = margin * (high - low)
    return low - extra, high + extra


def _number(value: float) -> str:
    """Short text of a tick, without the noise of binary fractions."""
    mantissa, _, exponent = f"{value:.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
