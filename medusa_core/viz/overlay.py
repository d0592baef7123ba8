"""Pictures made of a photograph and what was found in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def overlay(image: np.ndarray, colours: np.ndarray, alpha: float | np.ndarray) -> np.ndarray:
    """Tint an image.

    The photograph below a tint loses its own colour, so that one class looks alike everywhere.

    Args:
        image: `(H, W, 3) uint8`.
        colours: `(H, W, 3) uint8`.
        alpha: opacity of the colours in `[0, 1]`, one number or `(H, W)`.

    Returns:
        `(H, W, 3) uint8`.
    """
    photo = image.astype(np.float32)
    opacity = np.broadcast_to(np.asarray(alpha, np.float32), image.shape[:2])[..., None]
    grey = (photo @ _LUMA)[..., None]
    base = photo + np.minimum(opacity, 0.5) * 2 * 0.7 * (grey - photo)
    return _to_uint8(base + opacity * (colours - base))


def dim(image: np.ndarray, amount: np.ndarray, darkness: float = 0.65) -> np.ndarray:
    """Take colour and light from parts of an image.

    Args:
        image: `(H, W, 3) uint8`.
        amount: `(H, W)` in `[0, 1]`: 0 keeps a pixel, 1 leaves a dark grey.
        darkness: how much light goes where the amount is 1, in `[0, 1]`.

    Returns:
        `(H, W, 3) uint8`.
    """
    photo = image.astype(np.float32)
    share = amount.astype(np.float32)[..., None]
    grey = (photo @ _LUMA)[..., None]
    return _to_uint8((photo + share * (grey - photo)) * (1 - darkness * share))


def outline(
    image: np.ndarray,
    regions: np.ndarray,
    colour: Sequence[int] = (255, 255, 255),
    alpha: float = 0.55,
) -> np.ndarray:
    """Draw the borders between regions.

    Args:
        image: `(H, W, 3) uint8`.
        regions: `(H, W)` integers; a border runs where neighbours differ.
        colour: RGB of the line.
        alpha: its opacity in `[0, 1]`.

    Returns:
        `(H, W, 3) uint8`, a new array.
    """
    border = np.zeros(regions.shape, bool)
    border[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    border[:-1] |= regions[:-1] != regions[1:]
    for _ in range(round(min(regions.shape) / 480)):
        thick = border.copy()
        thick[:, 1:] |= border[:, :-1]
        thick[1:] |= border[:-1]
        border = thick
    result = image.copy()
    line = np.asarray(colour, np.float32)
    result[border] = _to_uint8(result[border] + alpha * (line - result[border]))
    return result


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
