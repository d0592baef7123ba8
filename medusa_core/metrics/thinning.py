"""Thinning of binary masks to lines one pixel wide."""

from __future__ import annotations

import numpy as np

_AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""(row, column) of the eight neighbours: east first, then counter-clockwise."""


def thin(mask: np.ndarray) -> np.ndarray:
    """Peel masks down to lines until nothing changes.

    Two halves of a round take turns. Each removes, all at once, border pixels of two of the four
    sides that neither hold their neighbours together nor end a line. This is the parallel thinning
    with two sub-iterations of Guo & Hall (Communications of the ACM 32, 1989), in the form that
    MATLAB documents for `bwmorph(mask, "thin", Inf)`, which the BSDS benchmark calls.

    Args:
        mask: `(…, H, W) bool`, or numbers of which those that are not zero are set; each plane is
            a mask of its own, and outside of it nothing is set. Many at once are quicker.

    Returns:
        `(…, H, W) bool`, a subset of each mask with as many 8-connected parts. Thinning it again
        changes nothing.

    Raises:
        ValueError: the mask has less than two axes.
    """
    if mask.ndim < 2:
        raise ValueError(f"a mask has two axes or more, not the shape {mask.shape}")
    margins = [(0, 0)] * (mask.ndim - 2) + [(1, 1)] * 2
    padded = np.ascontiguousarray(np.pad(mask != 0, margins))  # flat views of it are written to
    image, width = padded.reshape(-1), padded.shape[-1]
    around = np.array([row * width + column for row, column in _AROUND])
    # What each half has to look at: first the border, then only pixels beside a removed one.
    waiting = [_border(padded).reshape(-1) for _ in range(2)]
    half, unchanged = 0, 0
    while unchanged < 2:
        looked = np.flatnonzero(waiting[half] & image)
        waiting[half].fill(False)
        code = np.zeros(len(looked), np.uint8)
        for bit, step in enumerate(around):
            code |= image[looked + step].view(np.uint8) << np.uint8(bit)
        removed = looked[_REMOVABLE[half][code]]
        image[removed] = False
        beside = (removed[:, None] + around).reshape(-1)
        waiting[0][beside] = waiting[1][beside] = True
        half, unchanged = 1 - half, 0 if removed.size else unchanged + 1
    return np.ascontiguousarray(padded[..., 1:-1, 1:-1])


def _border(padded: np.ndarray) -> np.ndarray:
    """Set pixels with a neighbour that is not set. The rim of each plane of `padded` is empty."""
    height, width = (length - 2 for length in padded.shape[-2:])
    border = padded.copy()
    inside = padded[..., 1:-1, 1:-1].copy()
    for row, column in _AROUND:
        inside &= padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]
    border[..., 1:-1, 1:-1] &= ~inside
    return border


def _removable() -> tuple[np.ndarray, np.ndarray]:
    """For each half and each of 256 neighbourhoods, whether the pixel in the middle goes."""
    around = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    sides, corners = around[:, 0::2], around[:, 1::2]
    following = np.roll(sides, -1, axis=1)
    parts = (~sides & (corners | following)).sum(axis=1)
    pairs = np.minimum((sides | corners).sum(axis=1), (corners | following).sum(axis=1))
    goes = (parts == 1) & (pairs >= 2) & (pairs <= 3)
    east, north_east, north, north_west, west, south_west, south, south_east = around.T
    first = goes & ~((north_east | north | ~south_east) & east)
    second = goes & ~((south_west | south | ~north_west) & west)
    return first, second


_REMOVABLE = _removable()
