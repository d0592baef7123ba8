"""Stored arrays and pictures → targets in the layout of the tasks. Errors name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medusa_core.errors import DataError

IGNORED = 255
"""Pixels that count for no class, in label maps and binary maps."""

_SHORTEST = 1e-3
"""Length of stored vectors below which there is none."""
_LONGEST_DEPTH = 1000.0
"""Metres. Beyond it depth is certainly in another unit."""


def one_channel(path: Path, raw: np.ndarray) -> np.ndarray:
    """`(H, W)` from `(H, W)`, `(H, W, 1)` or `(1, H, W)`."""
    if raw.ndim == 3 and 1 in (raw.shape[0], raw.shape[2]):
        raw = raw[..., 0] if raw.shape[2] == 1 else raw[0]
    if raw.ndim != 2:
        raise DataError(f"{path}: shape {raw.shape}, expected (H, W).")
    return raw


def three_channels(path: Path, raw: np.ndarray) -> np.ndarray:
    """`(H, W, 3)` from `(H, W, 3)` or `(3, H, W)`."""
    if raw.ndim == 3 and raw.shape[2] == 3:
        return raw
    if raw.ndim == 3 and raw.shape[0] == 3:
        return raw.transpose(1, 2, 0)
    raise DataError(f"{path}: shape {raw.shape}, expected (H, W, 3).")


def require_size(path: Path, array: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse a target that is not of the size of its image."""
    if array.shape[:2] != size:
        raise DataError(
            f"{path}: {array.shape[1]}×{array.shape[0]}, but its image is {size[1]}×{size[0]}."
        )


def classes(path: Path, raw: np.ndarray, count: int, first: int, unlabelled: int) -> np.ndarray:
    """`(H, W) int64` class numbers from 0.

    Args:
        path: for errors.
        raw: whole numbers, `(H, W)` but for an axis of length 1.
        count: how many classes there are.
        first: stored value of class 0; the others follow.
        unlabelled: stored value of pixels that do not count; 255 in the result.
    """
    raw = one_channel(path, raw)
    if raw.dtype.kind == "f" and not (np.isfinite(raw) & (raw == np.trunc(raw))).all():
        raise DataError(f"{path}: holds values that are not whole numbers, expected classes.")
    stored = raw.astype(np.int64)
    ignored = stored == unlabelled
    wrong = ~ignored & ((stored < first) | (stored >= first + count))
    if wrong.any():
        values = ", ".join(map(str, np.unique(stored[wrong])[:8]))
        raise DataError(
            f"{path}: holds {values}, expected {first}…{first + count - 1} for the {count} classes "
            f"and {unlabelled} where unlabelled."
        )
    return np.where(ignored, IGNORED, stored - first)


def metres(path: Path, raw: np.ndarray) -> np.ndarray:
    """`(H, W) float32` depth, 0 where it was not measured, from metres."""
    raw = one_channel(path, raw)
    if raw.dtype.kind != "f":
        raise DataError(f"{path}: {raw.dtype}, expected metres as floating-point numbers.")
    _require_finite(path, raw)
    low, high = float(raw.min()), float(raw.max())
    if low < 0 or high > _LONGEST_DEPTH:
        raise DataError(
            f"{path}: {low:g} to {high:g}, expected metres, 0 where nothing was measured."
        )
    return raw.astype(np.float32)


def unit_vectors(path: Path, raw: np.ndarray) -> np.ndarray:
    """`(H, W, 3) float32` unit vectors from components in [-1, 1]; zero vectors are invalid.

    Most have to be of length 1, or nearly: what is stored from 0 to 1 is not, and would be bent.
    """
    raw = three_channels(path, raw)
    if raw.dtype.kind != "f":
        raise DataError(f"{path}: {raw.dtype}, expected floating-point numbers from -1 to 1.")
    _require_finite(path, raw)
    if np.abs(raw).max() > 1.01:
        raise DataError(
            f"{path}: {raw.min():g} to {raw.max():g}, expected unit vectors (-1 to 1), zero "
            "where there is none."
        )
    vectors = raw.astype(np.float32)
    length = _length(vectors)
    known = length[length > _SHORTEST]
    if known.size and np.median(np.abs(known - 1)) > 0.1:
        raise DataError(
            f"{path}: vectors of length {known.min():.2g} to {known.max():.2g}, expected unit "
            "vectors (-1 to 1, not 0 to 1), zero where there is none."
        )
    return _normalised(vectors, length, _SHORTEST, np.inf)


def picture_vectors(path: Path, raw: np.ndarray) -> np.ndarray:
    """`(H, W, 3) float32` unit vectors from 8-bit channels, 2x / 255 - 1.

    No unit vector is stored as mid-grey or as black or white: such pixels are invalid.
    """
    if raw.ndim != 3 or raw.shape[2] != 3 or raw.dtype != np.uint8:
        raise DataError(f"{path}: shape {raw.shape} of {raw.dtype}, expected 8-bit RGB.")
    vectors = raw.astype(np.float32) * np.float32(2 / 255) - 1
    return _normalised(vectors, _length(vectors), 0.25, 1.6)


def zero_or_one(path: Path, raw: np.ndarray) -> np.ndarray:
    """`(H, W) int64` of 0 and 1, stored as such."""
    raw = one_channel(path, raw)
    if not ((raw == 0) | (raw == 1)).all():
        raise DataError(f"{path}: holds values other than 0 and 1.")
    return raw.astype(np.int64)


def half_of_255(path: Path, raw: np.ndarray) -> np.ndarray:
    """`(H, W) int64` of 0 and 1 from an 8-bit picture: 1 where x / 255 > 0.5."""
    raw = one_channel(path, raw)
    if raw.dtype != np.uint8:
        raise DataError(f"{path}: {raw.dtype}, expected an 8-bit picture.")
    if raw.max() == 1:  # stored as 0 and 1: all of it would silently become 0
        raise DataError(f"{path}: its largest value is 1, expected 0 to 255.")
    return (raw > 127).astype(np.int64)


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt((vectors * vectors).sum(axis=2, keepdims=True))


def _normalised(
    vectors: np.ndarray, length: np.ndarray, shortest: float, longest: float
) -> np.ndarray:
    known = (length > shortest) & (length < longest)
    return np.where(known, vectors / np.maximum(length, np.float32(1e-6)), np.float32(0))


def _require_finite(path: Path, raw: np.ndarray) -> None:
    bad = int((~np.isfinite(raw)).sum())
    if bad:
        raise DataError(f"{path}: {bad} values are NaN or infinite.")
