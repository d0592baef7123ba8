"""The up direction that the surfaces of a room agree on."""

from __future__ import annotations

import numpy as np

ROUNDS = ((45.0, 5), (15.0, 5))
"""Degrees within which a surface counts as horizontal or upright, and how often."""
SAMPLES = 20_000
SMALLEST_SHARE = 0.05
"""Of the pixels must have a normal, and of these must agree."""


def up_direction(normals: np.ndarray) -> np.ndarray:
    """The direction that floors and tables face, and that walls are at right angles to.

    Starts at the top of the picture and refines: of the direction g wanted, horizontal surfaces
    have normals along ±g and upright ones normals across it, so g minimises the sum of cos² over
    these and of sin² over those, which is an eigenvector of a 3×3 matrix.

    Args:
        normals: `(H, W, 3) float32` unit vectors, x right, y up, z towards the camera; zero where
            there is none.

    Returns:
        `(3,) float32` unit vector; zero where too few surfaces agree on one.
    """
    flat = normals.reshape(-1, 3).astype(np.float64)
    known = flat[(flat != 0).any(axis=1)]
    nothing = np.zeros(3, np.float32)
    if len(known) < SMALLEST_SHARE * len(flat):
        return nothing
    known = known[:: max(1, len(known) // SAMPLES)]
    up = np.array([0.0, 1.0, 0.0])
    for degrees, repeats in ROUNDS:
        near = np.cos(np.radians(degrees))
        across = np.sin(np.radians(degrees))
        for _ in range(repeats):
            cosine = known @ up
            level, upright = known[np.abs(cosine) > near], known[np.abs(cosine) < across]
            if len(level) + len(upright) < SMALLEST_SHARE * len(known):
                return nothing
            _, vectors = np.linalg.eigh(upright.T @ upright - level.T @ level)
            up = vectors[:, 0] * (1.0 if vectors[1, 0] >= 0 else -1.0)
    if not len(level):
        return nothing
    return up.astype(np.float32)


def pitch_and_roll(up: np.ndarray) -> tuple[float, float]:
    """Degrees the camera looks above the horizon, and is turned clockwise.

    Args:
        up: `(3,)` unit vector.
    """
    x, y, z = (float(c) for c in up)
    return float(np.degrees(np.arctan2(-z, np.hypot(x, y)))), float(np.degrees(np.arctan2(-x, y)))
