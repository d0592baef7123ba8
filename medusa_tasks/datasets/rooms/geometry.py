"""Vectors as tuples, rotations without trigonometry, and the solids a scene is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medusa_tasks.datasets.rooms.materials import Material

Vec = tuple[float, float, float]
Axes = tuple[Vec, Vec, Vec]
"""The directions of local x, y, z in the world: rows of the world-to-local rotation."""

UPRIGHT: Axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

BOX, ELLIPSOID, CYLINDER, CAPSULE = range(4)


def add(a: Vec, b: Vec) -> Vec:
    """Sum of two vectors."""
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def sub(a: Vec, b: Vec) -> Vec:
    """Difference of two vectors."""
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def scale(a: Vec, k: float) -> Vec:
    """A vector times a number."""
    return (a[0] * k, a[1] * k, a[2] * k)


def dot(a: Vec, b: Vec) -> float:
    """Inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vec, b: Vec) -> Vec:
    """Cross product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def length(a: Vec) -> float:
    """Euclidean length."""
    return math.sqrt(dot(a, a))


def unit(a: Vec) -> Vec:
    """The vector scaled to length 1."""
    return scale(a, 1.0 / length(a))


def cos_sin(t: float) -> tuple[float, float]:
    """Cosine and sine of the angle whose half has tangent t, in exact arithmetic."""
    below = 1.0 + t * t
    return (1.0 - t * t) / below, 2.0 * t / below


def local(axes: Axes, v: Vec) -> Vec:
    """World direction → local direction."""
    return (dot(axes[0], v), dot(axes[1], v), dot(axes[2], v))


def world(axes: Axes, v: Vec) -> Vec:
    """Local direction → world direction."""
    return add(add(scale(axes[0], v[0]), scale(axes[1], v[1])), scale(axes[2], v[2]))


def facing(direction: Vec) -> Axes:
    """Upright axes whose z points along a horizontal direction."""
    z = unit((direction[0], 0.0, direction[2]))
    return ((z[2], 0.0, -z[0]), (0.0, 1.0, 0.0), z)


def turned(t: float) -> Axes:
    """Upright axes turned about the vertical by 2·arctan(t)."""
    c, s = cos_sin(t)
    return ((c, 0.0, -s), (0.0, 1.0, 0.0), (s, 0.0, c))


def along(direction: Vec) -> Axes:
    """Axes whose y points along a direction."""
    y = unit(direction)
    helper = (1.0, 0.0, 0.0) if abs(y[0]) < 0.8 else (0.0, 0.0, 1.0)
    x = unit(cross(y, helper))
    return (x, y, cross(x, y))


@dataclass(frozen=True, slots=True)
class Solid:
    """A box, ellipsoid, upright-in-its-frame cylinder (or cone frustum), or capsule.

    size: BOX half extents; ELLIPSOID half axes; CYLINDER (radius at mid height, half height,
    growth of the radius per unit of local y); CAPSULE (radius, half length of the axis, unused).
    part: the human part, 0 for things. front: material of a box's +z face, if it differs.
    """

    kind: int
    centre: Vec
    size: Vec
    axes: Axes
    material: Material
    label: int
    instance: int
    part: int = 0
    front: Material | None = None

    @property
    def extent(self) -> Vec:
        """Half extents of the box around the solid in its own frame."""
        if self.kind == CYLINDER:
            radius = self.size[0] + abs(self.size[2]) * self.size[1]
            return (radius, self.size[1], radius)
        if self.kind == CAPSULE:
            return (self.size[0], self.size[1] + self.size[0], self.size[0])
        return self.size

    @property
    def corners(self) -> list[Vec]:
        """The eight corners of that box in the world."""
        ex, ey, ez = (scale(a, e) for a, e in zip(self.axes, self.extent, strict=True))
        points = [add(self.centre, ex), sub(self.centre, ex)]
        points = [q for p in points for q in (add(p, ey), sub(p, ey))]
        return [q for p in points for q in (add(p, ez), sub(p, ez))]

    @property
    def reach(self) -> float:
        """Radius of a sphere around the centre that holds the solid."""
        if self.kind == ELLIPSOID:
            return max(self.size)
        if self.kind == CAPSULE:
            return self.size[0] + self.size[1]
        return length(self.extent)
