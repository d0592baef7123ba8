"""Exact targets of a rendered view."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medusa_tasks.datasets.rooms.render import View, orient, points
from medusa_tasks.datasets.rooms.scene import Scene


def depth(scene: Scene, view: View) -> np.ndarray:
    """Distance along the optical axis in metres, `(H, W) float32`."""
    return view.depth.astype(np.float32).reshape(view.height, view.width)


def normals(scene: Scene, view: View) -> np.ndarray:
    """Unit normals in the camera's frame, `(H, W, 3) float32`: x right, y up, z to the camera."""
    right, up, forward = scene.camera.axes
    backward = (-forward[0], -forward[1], -forward[2])
    result = np.empty((len(view.surface), 3), dtype=np.float32)
    groups = view.groups
    for i, number in enumerate(groups.present):
        pixels = groups.order[groups.bounds[i] : groups.bounds[i + 1]]
        (x, y, z), _, _ = orient(scene, number, points(scene.camera, view.depth, view.ray, pixels))
        for k, axis in enumerate((right, up, backward)):
            result[pixels, k] = x * axis[0] + y * axis[1] + z * axis[2]
    return result.reshape(view.height, view.width, 3)


def semseg(scene: Scene, view: View) -> np.ndarray:
    """Class of every pixel, `(H, W) int64`."""
    return _look_up(scene.labels, view)


def human_parts(scene: Scene, view: View) -> np.ndarray:
    """Body part of every pixel, 0 where there is no person, `(H, W) int64`."""
    return _look_up(scene.parts, view)


def edges(scene: Scene, view: View) -> np.ndarray:
    """Boundaries between instances, `(H, W) int64` in {0, 1}.

    An instance is a room face, a door, window, picture or rug, or a whole object. The pixel left of
    or above a boundary is marked, so lines are one pixel wide. Patterns are not edges.
    """
    instance = _look_up(scene.instances, view)
    result = np.zeros(instance.shape, dtype=np.int64)
    result[:, :-1] |= instance[:, 1:] != instance[:, :-1]
    result[:-1] |= instance[1:] != instance[:-1]
    return result


def saliency(scene: Scene, view: View) -> np.ndarray:
    """1 on what stands out, `(H, W) int64`: persons, else the object in a saturated accent colour.

    Persons count when they are noticeable: at least 4 of 24 × 32 coarse pixels.
    """
    first = scene.first_solid
    return _look_up([int(i - first in scene.salient) for i in scene.instances], view)


def _look_up(table: list[int], view: View) -> np.ndarray:
    values = np.array(table, dtype=np.int64)
    return values[view.surface].reshape(view.height, view.width)


TARGETS: dict[str, Callable[[Scene, View], np.ndarray]] = {
    "depth": depth,
    "normals": normals,
    "semseg": semseg,
    "edges": edges,
    "saliency": saliency,
    "human_parts": human_parts,
}
