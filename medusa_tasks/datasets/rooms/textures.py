"""Patterns on surfaces: integer hashes and piecewise-linear shapes only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medusa_tasks.datasets.rooms.materials import (
    BOOKS,
    BRICKS,
    CHECKER,
    DOTS,
    NOISE,
    PANELS,
    PLAID,
    PLAIN,
    PLANKS,
    STRIPES,
    TILES,
    Material,
    hsv,
)

Pattern = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
_OVER = 1.0 / 4294967296.0


def hashed(i: np.ndarray, j: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for every pair of whole numbers (floats holding integers)."""
    a = i.astype(np.int64).astype(np.uint32)
    b = j.astype(np.int64).astype(np.uint32)
    h = a * np.uint32(374761393) + b * np.uint32(668265263)
    h += np.uint32((seed * 2246822519 + 3266489917) & 0xFFFFFFFF)
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(3266489917)
    h ^= h >> np.uint32(16)
    return h.astype(np.float64) * _OVER


def value_noise(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    """Smooth noise in [0, 1) with features about one unit wide."""
    i, j = np.floor(u), np.floor(v)
    x, y = u - i, v - j
    x, y = x * x * (3.0 - 2.0 * x), y * y * (3.0 - 2.0 * y)
    i1, j1 = i + 1.0, j + 1.0
    low, low1 = hashed(i, j, seed), hashed(i1, j, seed)
    high, high1 = hashed(i, j1, seed), hashed(i1, j1, seed)
    bottom = low + (low1 - low) * x
    top = high + (high1 - high) * x
    return bottom + (top - bottom) * y


def _checker(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    i, j = np.floor(u) + np.floor(v), 0.5
    return (i * j - np.floor(i * j)) * 2.0


def _stripes(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    x = u - np.floor(u)
    return np.where(x < 0.35 + 0.3 * ((seed >> 4) % 2), 1.0, 0.0)


def _noise(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    return 0.65 * value_noise(u * 0.5, v, seed) + 0.35 * value_noise(u * 1.7, v * 2.3, seed + 1)


def _planks(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    if seed % 2:
        u, v = v, u
    row = np.floor(u)
    along = v * 0.14 + hashed(row, row, seed)
    tone = 0.75 * hashed(row, np.floor(along), seed + 1) + 0.15 * hashed(
        np.floor(u * 7.0), np.floor(v * 0.7), seed + 2
    )
    x, y = u - row, along - np.floor(along)
    return np.where((x < 0.05) | (y < 0.01), 1.5, tone)


def _tiles(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    i, j = np.floor(u), np.floor(v)
    x, y = u - i, v - j
    return np.where((x < 0.05) | (y < 0.05), 1.0, 0.25 * hashed(i, j, seed))


def _bricks(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    v = v * 3.0
    j = np.floor(v)
    half = j * 0.5
    u = u + (half - np.floor(half))
    i = np.floor(u)
    x, y = u - i, v - j
    return np.where((x < 0.05) | (y < 0.13), 1.0, 0.45 * hashed(i, j, seed))


def _dots(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    x, y = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return np.where(x * x + y * y < 0.075, 1.0, 0.0)


def _plaid(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    x, y = u - np.floor(u), v - np.floor(v)
    return 0.5 * (x < 0.4) + 0.5 * (y < 0.4)


_PATTERNS: dict[int, tuple[Pattern, float]] = {
    CHECKER: (_checker, 0.5),
    STRIPES: (_stripes, 0.5),
    NOISE: (_noise, 0.5),
    PLANKS: (_planks, 0.5),
    TILES: (_tiles, 0.2),
    BRICKS: (_bricks, 0.4),
    DOTS: (_dots, 0.24),
    PLAID: (_plaid, 0.4),
}


def _books(u: np.ndarray, v: np.ndarray, m: Material) -> tuple[np.ndarray, ...]:
    """Rows of spines between boards: m.scale apart, bottoms at whole multiples."""
    row = np.floor(v * (1.0 / m.scale))
    i = np.floor(u * (1.0 / 0.052))
    high = v * (1.0 / m.scale) - row
    size = 0.55 + 0.35 * hashed(i, row, m.seed)
    gap = (high > size) | (hashed(i, row, m.seed + 1) < 0.08)
    tone = hashed(i, row, m.seed + 2)
    value = 0.3 + 0.5 * hashed(i, row, m.seed + 3)
    palette = [hsv(6.0 * k / 7.0, 0.4 if k % 2 else 0.2, 1.0) for k in range(7)]
    pick = np.floor(tone * 7.0).astype(np.int64)
    channels = []
    for c in range(3):
        spine = np.array([colour[c] for colour in palette])[pick] * value
        channels.append(np.where(gap, m.colour[c], spine))
    return tuple(channels)


def _panels(u: np.ndarray, v: np.ndarray, m: Material) -> np.ndarray:
    """Doors or drawers: thin gaps and a knob in every cell."""
    du = u * (1.0 / m.scale)
    dv = v * (1.0 / (m.scale if m.seed == 0 else m.scale * 0.6))
    x, y = du - np.floor(du), dv - np.floor(dv)
    gap = (x < 0.04) | ((y < 0.05) if m.seed else (v < 0.09))
    px, py = x - (0.5 if m.seed else 0.85), y - 0.5
    return np.where(gap | (px * px + py * py < 0.005), 1.0, 0.0)


def paint(m: Material, u: np.ndarray, v: np.ndarray, blur: np.ndarray) -> tuple[np.ndarray, ...]:
    """The colour of a material, three arrays, as displayed.

    blur: width of a pixel on the surface in metres; patterns finer than that fade to their mean.
    """
    if m.pattern == PLAIN:
        return tuple(np.full(u.shape, c) for c in m.colour)
    if m.pattern == BOOKS:
        return _books(u, v, m)
    if m.pattern == PANELS:
        mix = _panels(u, v, m)
    else:
        pattern, mean = _PATTERNS[m.pattern]
        over = 1.0 / m.scale
        mix = pattern(u * over, v * over, m.seed)
        fade = np.minimum(np.maximum(1.6 - blur * (1.6 * over), 0.0), 1.0)
        mix = mean + (mix - mean) * fade
    return tuple(
        first + mix * (second - first) for first, second in zip(m.colour, m.second, strict=True)
    )
