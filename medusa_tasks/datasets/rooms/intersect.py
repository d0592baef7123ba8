"""Where rays from one origin meet a solid, in the solid's own frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medusa_tasks.datasets.rooms.geometry import BOX, CAPSULE, CYLINDER, ELLIPSOID, Vec

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]

NEAR = 1e-4
_TINY = 1e-12


def _safe(d: np.ndarray) -> np.ndarray:
    return np.where(np.abs(d) < _TINY, _TINY, d)


def _box(size: Vec, o: Vec, d: Arrays) -> np.ndarray:
    near = np.full(d[0].shape, -np.inf)
    far = np.full(d[0].shape, np.inf)
    for half, start, step in zip(size, o, d, strict=True):
        inverse = 1.0 / _safe(step)
        middle = inverse * -start
        spread = np.abs(inverse) * half
        enter, leave = middle - spread, middle + spread
        np.maximum(near, enter, out=near)
        np.minimum(far, leave, out=far)
    return np.where((near < far) & (near > NEAR), near, np.inf)


def _ellipsoid(size: Vec, o: Vec, d: Arrays) -> np.ndarray:
    x, y, z = (step * (1.0 / axis) for axis, step in zip(size, d, strict=True))
    ox, oy, oz = (start * (1.0 / axis) for axis, start in zip(size, o, strict=True))
    a = x * x + y * y + z * z
    b = x * ox + y * oy + z * oz
    root = b * b - a * (ox * ox + oy * oy + oz * oz - 1.0)
    t = (-b - np.sqrt(np.maximum(root, 0.0))) / np.maximum(a, _TINY)
    return np.where((root > 0.0) & (t > NEAR), t, np.inf)


def _capsule(size: Vec, o: Vec, d: Arrays) -> np.ndarray:
    radius, half, _ = size
    x, y, z = d
    a = x * x + z * z
    b = x * o[0] + z * o[2]
    c = o[0] * o[0] + o[2] * o[2] - radius * radius
    root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(root, 0.0))) / np.maximum(a, _TINY)
    height = t * y + o[1]
    end = np.where(height > 0.0, o[1] - half, o[1] + half)
    cap_a, cap_b = a + y * y, b + end * y
    cap_root = cap_b * cap_b - cap_a * (end * end + c)
    cap_t = (-cap_b - np.sqrt(np.maximum(cap_root, 0.0))) / np.maximum(cap_a, _TINY)
    side = np.abs(height) < half
    t = np.where(side, t, cap_t)
    hit = (root > 0.0) & (side | (cap_root > 0.0)) & (t > NEAR)
    return np.where(hit, t, np.inf)


def _cylinder(size: Vec, o: Vec, d: Arrays) -> np.ndarray:
    radius, half, grow = size
    x, y, z = d
    start = radius + grow * o[1]
    a = x * x + z * z
    b = x * o[0] + z * o[2]
    if grow != 0.0:
        a = a - y * y * (grow * grow)
        b = b - y * (grow * start)
    c = o[0] * o[0] + o[2] * o[2] - start * start
    root = b * b - a * c
    spread = np.sqrt(np.maximum(root, 0.0))
    over = 1.0 / _safe(a)
    best = np.full(a.shape, np.inf)
    for numerator in (-b - spread,) if grow == 0.0 else (-b - spread, spread - b):
        side = numerator * over
        hit = (root > 0.0) & (np.abs(side * y + o[1]) <= half) & (side > NEAR)
        best = np.minimum(best, np.where(hit, side, np.inf))
    end = np.where(y < 0.0, half, -half)
    cap = (end - o[1]) / _safe(y)
    px, pz = cap * x + o[0], cap * z + o[2]
    rim = end * grow + radius
    cap = np.where((px * px + pz * pz <= rim * rim) & (cap > NEAR), cap, np.inf)
    return np.minimum(best, cap)


_SOLVERS: dict[int, Callable[[Vec, Vec, Arrays], np.ndarray]] = {
    BOX: _box,
    ELLIPSOID: _ellipsoid,
    CYLINDER: _cylinder,
    CAPSULE: _capsule,
}


def intersect(kind: int, size: Vec, origin: Vec, direction: Arrays) -> np.ndarray:
    """Ray parameter of the first hit from outside, infinity where there is none."""
    return _SOLVERS[kind](size, origin, direction)


def normal(kind: int, size: Vec, p: Arrays) -> Arrays:
    """Unit outward normals at points on the surface, in the solid's frame."""
    x, y, z = p
    if kind == BOX:
        qx, qy, qz = (np.abs(c) * (1.0 / half) for c, half in zip(p, size, strict=True))
        on_x = (qx >= qy) & (qx >= qz)
        on_y = ~on_x & (qy >= qz)
        on_z = ~on_x & ~on_y
        return (
            np.where(on_x, np.where(x > 0.0, 1.0, -1.0), 0.0),
            np.where(on_y, np.where(y > 0.0, 1.0, -1.0), 0.0),
            np.where(on_z, np.where(z > 0.0, 1.0, -1.0), 0.0),
        )
    if kind == ELLIPSOID:
        nx, ny, nz = (c * (1.0 / (axis * axis)) for c, axis in zip(p, size, strict=True))
    elif kind == CAPSULE:
        nx, ny, nz = x, y - np.minimum(np.maximum(y, -size[1]), size[1]), z
    else:
        cap = np.abs(y) >= size[1] * (1.0 - 1e-9)
        nx, nz = np.where(cap, 0.0, x), np.where(cap, 0.0, z)
        ny = np.where(cap, np.where(y > 0.0, 1.0, -1.0), -size[2] * (size[0] + size[2] * y))
    over = 1.0 / np.maximum(np.sqrt(nx * nx + ny * ny + nz * nz), _TINY)
    return nx * over, ny * over, nz * over
