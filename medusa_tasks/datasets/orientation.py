"""Which way the axes of stored surface normals point, told from the normals themselves.

Copies of NYUD differ in it and none says so: sources give x as right and as left, y as up and as
down. But whatever a camera sees faces it. So, with u and v the position of a pixel right of and
above the centre, x tends to be negative where u is positive if it points right, y tends to be
negative where v is positive if it points up, and z is positive if it points towards the camera. Of
199 images of NYU v2 with normals computed from their depth, 99 % agree with that in x and in y, and
all in z; a vote of a few images leaves no doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from medusa_core.errors import DataError
from medusa_tasks.datasets.tree import entries

VOTERS = 15
"""How many images vote."""

_CLEAR = 0.1
"""A correlation (or mean z) below this is no vote."""
_FEWEST = 3
_MAJORITY = 0.75


def voters(folder: Path, kind: str) -> list[Path]:
    """Some of the files in the folder of all normals, with that suffix, evenly spread."""
    files = [path for path in entries(folder) if path.suffix == kind]
    count = min(VOTERS, len(files))
    return [files[i * len(files) // count] for i in range(count)]


def turned(
    voting: Sequence[Path], read: Callable[[Path], np.ndarray]
) -> Callable[[Path], np.ndarray]:
    """Read normals with their axes turned to those of the task.

    Args:
        voting: files that the first reading looks at, to see how they point. Those that cannot be
            read have no vote; it is an error where none can.
        read: file → `(H, W, 3) float32` unit vectors as stored, zero where invalid. Raises
            `DataError`.
    """

    @cache
    def signs() -> np.ndarray:
        found, errors = [], []
        for path in voting:
            try:
                found.append(read(path))
            except DataError as err:
                errors.append(err)
        if errors and not found:
            raise errors[0]
        return axis_signs(found)

    return lambda path: read(path) * signs()


def axis_signs(normals: Iterable[np.ndarray]) -> np.ndarray:
    """What to multiply stored normals with, so that x is right, y up and z towards the camera.

    Args:
        normals: `(H, W, 3)` unit vectors of some images as stored, zero where invalid.

    Returns:
        `(3,) float32` of 1 and -1: -1 where three quarters of at least three votes say so.
    """
    votes = np.array([_vote(image) for image in normals]).reshape(-1, 3)
    against, cast = (votes < 0).sum(axis=0), (votes != 0).sum(axis=0)
    turned = (cast >= _FEWEST) & (against >= _MAJORITY * cast)
    return np.where(turned, -1, 1).astype(np.float32)


def _vote(normals: np.ndarray) -> np.ndarray:
    """1, 0 or -1 for each axis: as wanted, unclear, turned."""
    height, width = normals.shape[:2]
    right = (np.arange(width) + 0.5) / width - 0.5
    up = 0.5 - (np.arange(height) + 0.5) / height
    known = normals.any(axis=2)
    if not known.any():
        return np.zeros(3)
    outward = (
        normals[..., 0] * right[None, :],
        normals[..., 1] * up[:, None],
    )
    agreement = [-value.sum() / max(np.abs(value).sum(), 1e-6) for value in outward]
    agreement.append(normals[..., 2][known].mean())
    return np.where(np.abs(agreement) < _CLEAR, 0, np.sign(agreement))
