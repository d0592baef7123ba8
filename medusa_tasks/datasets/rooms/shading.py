"""Light: from what the camera sees to the picture it takes."""

from __future__ import annotations

import numpy as np

from medusa_tasks.datasets.rooms.geometry import Solid, Vec, add, dot, length, local, scale, sub
from medusa_tasks.datasets.rooms.intersect import Arrays, intersect
from medusa_tasks.datasets.rooms.render import View, orient, points
from medusa_tasks.datasets.rooms.scene import Light, Scene
from medusa_tasks.datasets.rooms.stream import derive_seed
from medusa_tasks.datasets.rooms.surfaces import colour_of


class _Buffers:
    """Per-pixel attributes in the order of `View.groups`."""

    def __init__(self, count: int) -> None:
        self.point = tuple(np.empty(count) for _ in range(3))
        self.normal = tuple(np.empty(count) for _ in range(3))
        self.albedo = tuple(np.empty(count) for _ in range(3))
        self.glow = np.empty(count)
        self.gloss = np.empty(count)


def _gather(scene: Scene, view: View) -> _Buffers:
    buffers = _Buffers(len(view.surface))
    camera, groups = scene.camera, view.groups
    step = 2.0 * camera.slope / view.height
    for i, number in enumerate(groups.present):
        span = slice(groups.bounds[i], groups.bounds[i + 1])
        pixels = groups.order[span]
        p = points(camera, view.depth, view.ray, pixels)
        n, place, inside = orient(scene, number, p)
        ray = tuple(view.ray[k][pixels] for k in range(3))
        far = np.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
        slant = np.abs(ray[0] * n[0] + ray[1] * n[1] + ray[2] * n[2]) / far
        blur = view.depth[pixels] * step / np.maximum(np.sqrt(slant), 0.1)
        colour, glow, gloss = colour_of(scene, number, place, inside, blur)
        for k in range(3):
            buffers.point[k][span] = p[k]
            buffers.normal[k][span] = n[k]
            buffers.albedo[k][span] = colour[k] * colour[k]
        buffers.glow[span] = glow
        buffers.gloss[span] = gloss
    return buffers


def _clusters(scene: Scene, owner: int) -> list[tuple[Vec, float, list[Solid]]]:
    """Objects that can cast a shadow: centre and radius around them, and their solids."""
    members: dict[int, list[Solid]] = {}
    for solid in scene.solids:
        if solid.instance != owner:
            members.setdefault(solid.instance, []).append(solid)
    clusters = []
    for solids in members.values():
        middle = (0.0, 0.0, 0.0)
        for solid in solids:
            middle = add(middle, scale(solid.centre, 1.0 / len(solids)))
        radius = max(length(sub(solid.centre, middle)) + solid.reach for solid in solids)
        clusters.append((middle, radius, solids))
    return clusters


def _shadow(scene: Scene, light: Light, away: Arrays, square: np.ndarray, lit: np.ndarray) -> None:
    """Clear `lit` where something stands between the light and the point at light + away."""
    stop = 1.0 - 4e-3
    for centre, radius, solids in _clusters(scene, light.owner):
        to = sub(centre, light.position)
        ahead = away[0] * to[0] + away[1] * to[1] + away[2] * to[2]
        share = np.minimum(np.maximum(ahead / square, 0.0), 1.0)
        gap = share * (share * square - 2.0 * ahead)
        near = np.flatnonzero(lit & (gap < radius * radius - dot(to, to)))
        if not near.size:
            continue
        x, y, z = (away[k][near] for k in range(3))
        dark = np.zeros(len(near), dtype=bool)
        for solid in solids:
            a, b, c = solid.axes
            d = (
                x * a[0] + y * a[1] + z * a[2],
                x * b[0] + y * b[1] + z * b[2],
                x * c[0] + y * c[1] + z * c[2],
            )
            origin = local(solid.axes, sub(light.position, solid.centre))
            dark |= intersect(solid.kind, solid.size, origin, d) < stop
        lit[near[dark]] = False


def _illuminate(scene: Scene, view: View, b: _Buffers) -> list[np.ndarray]:
    """Linear radiance of the three channels."""
    nx, ny, nz = b.normal
    eye = scene.camera.position
    size = scene.room.size
    ambient = 0.9 + 0.1 * ny
    for k in range(3):
        gap = np.minimum(b.point[k], size[k] - b.point[k])
        gap = np.maximum(gap, 0.0) + 0.03
        ambient = ambient * (0.55 + 0.45 * gap / (gap + 0.12))
    channels = [b.albedo[k] * (ambient * scene.ambient[k] + b.glow) for k in range(3)]
    ex, ey, ez = (eye[k] - b.point[k] for k in range(3))
    far = 1.0 / np.sqrt(ex * ex + ey * ey + ez * ez)
    for light in scene.lights:
        away = tuple(b.point[k] - light.position[k] for k in range(3))
        square = np.maximum(away[0] * away[0] + away[1] * away[1] + away[2] * away[2], 1e-4)
        over = 1.0 / np.sqrt(square)
        facing = (away[0] * nx + away[1] * ny + away[2] * nz) * over
        facing = np.maximum(-facing, 0.0)
        lit = facing > 0.0
        _shadow(scene, light, (away[0], away[1], away[2]), square, lit)
        power = lit / (square * (1.0 / (light.reach * light.reach)) + 1.0)
        hx, hy, hz = ((e * far - a * over) for e, a in zip((ex, ey, ez), away, strict=True))
        half = np.maximum(hx * nx + hy * ny + hz * nz, 0.0)
        shine = half * half / np.maximum(hx * hx + hy * hy + hz * hz, 1e-9)
        for _ in range(4):
            shine = shine * shine
        shine = shine * b.gloss
        facing = facing * power
        shine = shine * power
        for k in range(3):
            channels[k] = channels[k] + (b.albedo[k] * facing + shine) * light.colour[k]
    return channels


def _lens(image: np.ndarray) -> np.ndarray:
    """A slight blur, as of any lens: 1-6-1 along rows, then columns."""
    for axis in (0, 1):
        if axis == 0:
            before = np.concatenate((image[:1], image[:-1]), axis=0)
            after = np.concatenate((image[1:], image[-1:]), axis=0)
        else:
            before = np.concatenate((image[:, :1], image[:, :-1]), axis=1)
            after = np.concatenate((image[:, 1:], image[:, -1:]), axis=1)
        image = image * 0.75 + (before + after) * 0.125
    return image


def _gain(scene: Scene, luminance: np.ndarray) -> float:
    """Exposure: puts the 60th percentile of a coarse sample of pixels on the target."""
    sample = np.sort(luminance[4::9, 4::9].ravel())
    level = max(float(sample[int(len(sample) * 6 // 10)]), 0.02)
    return scene.exposure * scene.exposure / level


def photograph(scene: Scene, view: View) -> np.ndarray:
    """The picture: `(H, W, 3) uint8`."""
    shape = (view.height, view.width)
    buffers = _gather(scene, view)
    channels = []
    for values in _illuminate(scene, view, buffers):
        flat = np.empty(len(values))
        flat[view.groups.order] = values
        channels.append(_lens(flat.reshape(shape)))
    gain = _gain(scene, 0.3 * channels[0] + 0.6 * channels[1] + 0.1 * channels[2])
    bits = np.random.PCG64(derive_seed("noise", scene.seed)).random_raw(view.height * view.width)
    image = np.empty((*shape, 3), dtype=np.uint8)
    for k in range(3):
        exposed = channels[k] * gain
        # filmic shoulder: linear at first, approaches 1
        toned = exposed * (1.0 + exposed * 0.25) / (1.0 + exposed)
        shown = np.sqrt(np.minimum(toned * 1.15, 1.0))
        first = (bits >> np.uint64(20 * k)) & np.uint64(1023)
        second = (bits >> np.uint64(20 * k + 10)) & np.uint64(1023)
        grain = (first.astype(np.float64) - second.astype(np.float64)) * (1.0 / 1024.0)
        shown = shown + grain.reshape(shape) * (scene.noise * 2.0)
        image[..., k] = np.floor(np.minimum(np.maximum(shown, 0.0), 1.0) * 255.0 + 0.5)
    return image
