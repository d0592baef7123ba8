"""Colours: a sequential map for quantities and a palette for classes.

Both are computed from a few control points in OKLab (Ottosson 2020), where equal distances look
equally different.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_LEVELS = 256
_CONTROL = (
    # lightness, chroma, hue in degrees: lightness rises evenly, so the map survives greyscale.
    (0.16, 0.06, 285.0),
    (0.28, 0.13, 290.0),
    (0.40, 0.17, 312.0),
    (0.52, 0.19, 350.0),
    (0.64, 0.19, 390.0),
    (0.76, 0.16, 420.0),
    (0.87, 0.15, 448.0),
    (0.97, 0.07, 466.0),
)
_FIRST = (
    # Clear, friendly, and apart from each other for most kinds of colour vision.
    (66, 133, 220),
    (244, 160, 54),
    (74, 172, 96),
    (214, 76, 84),
    (146, 104, 200),
    (78, 190, 200),
    (232, 130, 182),
    (158, 116, 80),
    (196, 206, 72),
    (120, 132, 148),
)
_BLACK = (0.0, 0.0, 0.0)


def colour_map() -> np.ndarray:
    """The sequential map, dark violet through red to light yellow: `(256, 3) uint8` RGB."""
    return _sequential().copy()


def apply_colour_map(values: np.ndarray) -> np.ndarray:
    """Colour values by the sequential map.

    Args:
        values: any shape, 0 is the dark end and 1 the light one; others are clipped, NaN is 0.

    Returns:
        `(*values.shape, 3) uint8`.
    """
    unit = np.clip(np.nan_to_num(values, nan=0.0), 0, 1)
    return _sequential()[np.rint(unit * (_LEVELS - 1)).astype(np.intp)]


def palette(count: int) -> np.ndarray:
    """Colours for classes: distinct, the same every time, `palette(n)[:m]` equal to `palette(m)`.

    Args:
        count: number of colours, 0 or more.

    Returns:
        `(count, 3) uint8` RGB.
    """
    size = len(_FIRST)
    while size < count:
        size *= 2
    return _distinct(size)[:count].copy()


@cache
def _sequential() -> np.ndarray:
    light, chroma, hue = (np.array(column) for column in zip(*_CONTROL, strict=True))
    at = np.linspace(0, len(_CONTROL) - 1, _LEVELS)
    angle = np.radians(_smooth(at, hue))
    radius = _smooth(at, chroma)
    lab = [_smooth(at, light), radius * np.cos(angle), radius * np.sin(angle)]
    table: np.ndarray = _to_srgb(np.stack(lab, axis=1))
    table.flags.writeable = False
    return table


def _smooth(at: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Catmull-Rom interpolation of evenly spaced points."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    index = np.minimum(at.astype(np.intp), len(points) - 2)
    t = at - index
    p0, p1, p2, p3 = (padded[index + offset] for offset in range(4))
    cubic = (3 * p1 - 3 * p2 + p3 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3)
    return np.asarray(p1 + 0.5 * t * ((p2 - p0) + t * cubic))


@cache
def _distinct(count: int) -> np.ndarray:
    """Each colour is the candidate that is farthest from all before it."""
    levels = np.array([56, 92, 128, 164, 200, 236])
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    candidates = grid if count <= 100 else _dense_grid(count)
    lab = _to_oklab(candidates)
    chosen = [np.array(colour) for colour in _FIRST]
    near = np.full(len(lab), np.inf)
    for colour in [*chosen, _BLACK]:
        near = np.minimum(near, _distance(lab, _to_oklab(np.array(colour, float)[None])))
    while len(chosen) < count:
        # Rounding hides last-bit differences between machines from the choice.
        best = int(near.round(6).argmax())
        chosen.append(candidates[best])
        near = np.minimum(near, _distance(lab, lab[best : best + 1]))
    table: np.ndarray = np.array(chosen[:count], dtype=np.uint8)
    table.flags.writeable = False
    return table


def _dense_grid(count: int) -> np.ndarray:
    steps = int(np.ceil((4 * count) ** (1 / 3)))
    levels = np.rint(np.linspace(30, 250, max(steps, 10)))
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(((first - second) ** 2).sum(axis=1))


_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _to_oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab of `(N, 3)` sRGB in [0, 255]."""
    unit = np.asarray(rgb, float) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _LMS.T) @ _LAB.T)


def _to_srgb(lab: np.ndarray) -> np.ndarray:
    """`(N, 3) uint8` sRGB of OKLab, clipped to what a screen can show."""
    linear = (lab @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_LMS).T
    linear = np.clip(linear, 0, 1)
    unit = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * unit).astype(np.uint8))
