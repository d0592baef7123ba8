"""Primary rays: which surface every pixel sees, how far away, and how it is oriented."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medusa_tasks.datasets.rooms.geometry import Axes, Solid, dot, local, sub
from medusa_tasks.datasets.rooms.intersect import Arrays, intersect, normal
from medusa_tasks.datasets.rooms.scene import FACES, Camera, Region, Scene


@dataclass(slots=True)
class Groups:
    """Pixels sorted by surface: `order[bounds[i]:bounds[i + 1]]` are those of `present[i]`."""

    order: np.ndarray
    present: list[int]
    bounds: list[int]


@dataclass(slots=True)
class View:
    """What the camera sees; arrays are flat, row by row.

    surface: number of the surface; depth: along the optical axis; ray: direction in the world whose
    component along the optical axis is 1, so that a point is camera + depth · ray.
    """

    height: int
    width: int
    surface: np.ndarray
    depth: np.ndarray
    ray: Arrays
    groups: Groups


def pixel_grid(camera: Camera, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tangents of the view angles: u to the right of every column, v up of every row."""
    step = 2.0 * camera.slope / height
    u = (np.arange(width, dtype=np.float64) + (0.5 - 0.5 * width)) * step
    v = (np.arange(height, dtype=np.float64) + (0.5 - 0.5 * height)) * -step
    return u, v


def _rays(basis: Axes, u: np.ndarray, v: np.ndarray) -> Arrays:
    """Ray directions u·right + v·up + forward; basis holds the three vectors in some frame."""
    right, up, forward = basis
    x, y, z = ((v * up[k] + forward[k])[:, None] + (u * right[k])[None, :] for k in range(3))
    return x, y, z


def _window(
    solid: Solid, camera: Camera, u: np.ndarray, v: np.ndarray
) -> tuple[int, int, int, int] | None:
    """Rows and columns that a solid can cover; None if it is behind the camera."""
    low_u = low_v = 1e9
    high_u = high_v = -1e9
    behind = 0
    right, up, forward = camera.axes
    for corner in solid.corners:
        away = sub(corner, camera.position)
        z = dot(away, forward)
        if z < 0.05:
            behind += 1
            continue
        x, y = dot(away, right) / z, dot(away, up) / z
        low_u, high_u = min(low_u, x), max(high_u, x)
        low_v, high_v = min(low_v, y), max(high_v, y)
    if behind == 8:
        return None
    if behind:
        return 0, len(v), 0, len(u)
    left, end = np.searchsorted(u, (low_u, high_u)).tolist()
    first, last = np.searchsorted(-v, (-high_v, -low_v)).tolist()
    return (first, last, left, end) if first < last and left < end else None


def cast(scene: Scene, height: int, width: int) -> View:
    """Find the first surface behind every pixel."""
    camera = scene.camera
    u, v = pixel_grid(camera, height, width)
    ray = _rays(camera.axes, u, v)
    depth, surface = _cast_room(scene, ray)
    for number, solid in enumerate(scene.solids, scene.first_solid):
        window = _window(solid, camera, u, v)
        if window is None:
            continue
        rows, columns = slice(window[0], window[1]), slice(window[2], window[3])
        right, up, forward = (local(solid.axes, axis) for axis in camera.axes)
        origin = local(solid.axes, sub(camera.position, solid.centre))
        t = intersect(
            solid.kind, solid.size, origin, _rays((right, up, forward), u[columns], v[rows])
        )
        ahead = depth[rows, columns]
        closer = t < ahead
        np.copyto(ahead, t, where=closer)
        np.copyto(surface[rows, columns], number, where=closer)
    flat = (ray[0].ravel(), ray[1].ravel(), ray[2].ravel())
    depth, surface = depth.ravel(), surface.ravel()
    _paint_regions(scene, surface, depth, flat)
    return View(height, width, surface, depth, flat, _group(surface))


def _cast_room(scene: Scene, ray: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Depth and face where the rays leave the room."""
    depth = np.full(ray[0].shape, np.inf)
    surface = np.zeros(ray[0].shape, dtype=np.int32)
    for axis in range(3):
        d = np.where(np.abs(ray[axis]) < 1e-12, 1e-12, ray[axis])
        towards = d > 0.0
        start = scene.camera.position[axis]
        t = np.where(towards, scene.room.size[axis] - start, -start) / d
        face = towards.astype(np.int32) + 2 * axis
        closer = t < depth
        np.copyto(depth, t, where=closer)
        np.copyto(surface, face, where=closer)
    return depth, surface


def face_coordinates(face: int, p: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates within a room face of points given in the room."""
    if face < 2:
        return p[2], p[1]
    return (p[0], p[2]) if face < 4 else (p[0], p[1])


def region_coordinates(
    region: Region, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Metres from the region's centre along its own axes."""
    x, y = a - region.centre[0], b - region.centre[1]
    c, s = region.turn
    return (x, y) if s == 0.0 else (x * c + y * s, y * c - x * s)


def _paint_regions(scene: Scene, surface: np.ndarray, depth: np.ndarray, ray: Arrays) -> None:
    """Give the pixels of doors, windows, pictures and rugs their own surface."""
    for face in sorted({region.face for region in scene.regions}):
        pixels = np.flatnonzero(surface == face)
        if not pixels.size:
            continue
        a, b = face_coordinates(face, points(scene.camera, depth, ray, pixels))
        for number, region in enumerate(scene.regions, FACES):
            if region.face != face:
                continue
            x, y = region_coordinates(region, a, b)
            x, y = x * (1.0 / region.half[0]), y * (1.0 / region.half[1])
            if region.round:
                inside = x * x + y * y < 1.0
            else:
                inside = (np.abs(x) < 1.0) & (np.abs(y) < 1.0)
            surface[pixels[inside]] = number


def points(camera: Camera, depth: np.ndarray, ray: Arrays, pixels: np.ndarray) -> Arrays:
    """World points seen by some pixels."""
    t = depth[pixels]
    x, y, z = (ray[k][pixels] * t + camera.position[k] for k in range(3))
    return x, y, z


def _group(surface: np.ndarray) -> Groups:
    order = np.argsort(surface, kind="stable")
    ranked = surface[order]
    starts = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
    bounds = [0, *starts.tolist(), len(order)]
    return Groups(order, ranked[bounds[:-1]].tolist(), bounds)


_FACE_NORMALS = (
    (1.0, 0.0, 0.0),
    (-1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, -1.0, 0.0),
    (0.0, 0.0, 1.0),
    (0.0, 0.0, -1.0),
)


def face_of(scene: Scene, surface: int) -> int:
    """The room face a surface lies on."""
    return surface if surface < FACES else scene.regions[surface - FACES].face


def orient(scene: Scene, number: int, p: Arrays) -> tuple[Arrays, Arrays, Arrays]:
    """World normals of points on one surface, and the points and normals in its frame."""
    if number < scene.first_solid:
        nx, ny, nz = _FACE_NORMALS[face_of(scene, number)]
        shape = p[0].shape
        flat = (np.full(shape, nx), np.full(shape, ny), np.full(shape, nz))
        return flat, p, flat
    solid = scene.solids[number - scene.first_solid]
    x, y, z = (p[k] - solid.centre[k] for k in range(3))
    q0, q1, q2 = (x * axis[0] + y * axis[1] + z * axis[2] for axis in solid.axes)
    n = normal(solid.kind, solid.size, (q0, q1, q2))
    ax, ay, az = solid.axes
    w0, w1, w2 = (n[0] * ax[k] + n[1] * ay[k] + n[2] * az[k] for k in range(3))
    return (w0, w1, w2), (q0, q1, q2), n
