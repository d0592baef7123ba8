"""Articulated human figures in random poses."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medusa_tasks.datasets.rooms.geometry import (
    CAPSULE,
    ELLIPSOID,
    Axes,
    Solid,
    Vec,
    add,
    along,
    cos_sin,
    cross,
    length,
    scale,
    sub,
    unit,
)
from medusa_tasks.datasets.rooms.materials import Material, clothes, hair, shade, skin
from medusa_tasks.datasets.rooms.scene import (
    HEAD,
    LOWER_ARM,
    LOWER_LEG,
    PERSON,
    TORSO,
    UPPER_ARM,
    UPPER_LEG,
)
from medusa_tasks.datasets.rooms.stream import Stream

STAND, WALK, WAVE, REACH, SIT = range(5)


@dataclass(frozen=True, slots=True)
class _Outfit:
    shirt: Material
    sleeve: Material
    trousers: Material
    shank: Material
    shoes: Material
    skin: Material
    hair: Material


def _outfit(s: Stream) -> _Outfit:
    shirt, trousers, bare = clothes(s), clothes(s), skin(s)
    trousers = replace(trousers, pattern=0, colour=shade(trousers.colour, 0.8))
    shoes = _shoes(s)
    return _Outfit(
        shirt=shirt,
        sleeve=shirt if s.chance(0.45) else bare,
        trousers=trousers,
        shank=trousers if s.chance(0.7) else bare,
        shoes=shoes,
        skin=bare,
        hair=hair(s),
    )


def _shoes(s: Stream) -> Material:
    """Shoes."""
    value = s.uniform(0.08, 0.4)
    return Material((value, value * 0.9, value * 0.85), (value, value, value), gloss=0.2)


def _swing(v: Vec, t: float) -> Vec:
    """Turn about the lateral axis: positive t moves a hanging limb forward."""
    c, s = cos_sin(t)
    return (v[0], v[1] * c + v[2] * s, v[2] * c - v[1] * s)


def _spread(v: Vec, t: float) -> Vec:
    """Turn about the forward axis: positive t moves a hanging limb towards +x."""
    c, s = cos_sin(t)
    return (v[0] * c - v[1] * s, v[1] * c + v[0] * s, v[2])


@dataclass(frozen=True, slots=True)
class _Pose:
    """Half-angle tangents; index 0 is the figure's +x side, 1 the other."""

    lean: float
    tilt: float
    hip: tuple[float, float]
    knee: tuple[float, float]
    stance: tuple[float, float]
    shoulder: tuple[float, float]
    raise_: tuple[float, float]
    elbow: tuple[float, float]


def _pose(s: Stream, kind: int) -> _Pose:
    u = s.uniform
    lean, tilt = u(-0.03, 0.08), u(-0.12, 0.12)
    hip, knee = (u(-0.06, 0.1), u(-0.06, 0.1)), (u(0.0, 0.08), u(0.0, 0.08))
    stance = (u(0.02, 0.12), u(0.02, 0.12))
    shoulder, raised = (u(-0.12, 0.2), u(-0.12, 0.2)), (u(0.05, 0.22), u(0.05, 0.22))
    elbow = (u(0.02, 0.5), u(0.02, 0.5))
    if kind == WALK:
        stride = u(0.14, 0.28)
        hip, shoulder = (stride, -stride), (-stride, stride)
        knee = (u(0.05, 0.2), u(0.1, 0.4))
    elif kind == WAVE:
        raised = (u(0.7, 1.6), raised[1]) if s.chance(0.5) else (u(0.6, 1.5), u(0.6, 1.5))
        shoulder = (u(-0.05, 0.15), u(-0.05, 0.15))
        elbow = (u(0.1, 0.6), u(0.1, 0.6))
    elif kind == REACH:
        shoulder = (u(0.35, 1.0), u(0.1, 0.9))
        raised = (u(0.0, 0.2), u(0.0, 0.2))
        elbow = (u(0.0, 0.4), u(0.0, 0.4))
    elif kind == SIT:
        hip = (u(0.88, 1.0), u(0.88, 1.0))
        knee = (u(0.85, 1.0), u(0.85, 1.0))
        shoulder = (u(0.05, 0.35), u(0.05, 0.35))
    if s.chance(0.5):
        hip, knee, shoulder = hip[::-1], knee[::-1], shoulder[::-1]
        raised, elbow = raised[::-1], elbow[::-1]
    return _Pose(lean, tilt, hip, knee, stance, shoulder, raised, elbow)


class _Body:
    """Collects the solids of one figure in its own frame: +x its side, y up, +z forward."""

    def __init__(self, k: float, instance: int) -> None:
        self.k, self.instance = k, instance
        self.solids: list[Solid] = []

    def blob(self, at: Vec, size: Vec, axes: Axes, material: Material, part: int) -> None:
        solid = Solid(
            ELLIPSOID, at, scale(size, self.k), axes, material, PERSON, self.instance, part
        )
        self.solids.append(solid)

    def limb(self, a: Vec, b: Vec, radius: float, material: Material, part: int) -> None:
        middle, axis = scale(add(a, b), 0.5), sub(b, a)
        size = (radius * self.k, length(axis) * 0.5, 0.0)
        axes = along(axis)
        solid = Solid(CAPSULE, middle, size, axes, material, PERSON, self.instance, part)
        self.solids.append(solid)


def figure(s: Stream, kind: int, seat: float, instance: int) -> list[Solid]:
    """A figure at the origin looking along +z, feet on the floor or hips on a seat."""
    k = s.uniform(0.9, 1.1) if s.chance(0.85) else s.uniform(0.7, 0.85)
    wear, pose, body = _outfit(s), _pose(s, kind), _Body(k, instance)
    bulk = s.uniform(0.92, 1.16)
    hips = (0.0, 0.0, 0.0)
    up = _spread(_swing((0.0, 1.0, 0.0), -pose.lean), pose.tilt * 0.3)
    front = cross((1.0, 0.0, 0.0), up)
    side = unit(cross(up, front))
    trunk = (side, up, unit(front))
    body.blob(
        add(hips, scale(up, 0.07 * k)),
        (0.165 * bulk, 0.15, 0.12 * bulk),
        trunk,
        wear.trousers,
        TORSO,
    )
    body.blob(
        add(hips, scale(up, 0.31 * k)), (0.185 * bulk, 0.27, 0.125 * bulk), trunk, wear.shirt, TORSO
    )
    _head(body, add(hips, scale(up, 0.54 * k)), trunk, pose.tilt, wear)
    lowest = 0.0
    for i, sign in enumerate((1.0, -1.0)):
        shoulder = add(add(hips, scale(up, 0.47 * k)), scale(side, sign * 0.19 * k * bulk))
        _arm(body, shoulder, sign, pose, i, wear)
        lowest = min(lowest, _leg(body, (sign * 0.095 * k, -0.02 * k, 0.0), sign, pose, i, wear))
    lift = seat + 0.1 * k if kind == SIT else -lowest
    return [replace(solid, centre=add(solid.centre, (0.0, lift, 0.0))) for solid in body.solids]


def _head(body: _Body, neck: Vec, trunk: Axes, tilt: float, wear: _Outfit) -> None:
    k = body.k
    up = _spread(trunk[1], tilt)
    side = unit(cross(up, trunk[2]))
    axes = (side, up, cross(side, up))
    body.limb(neck, add(neck, scale(up, 0.1 * k)), 0.055, wear.skin, HEAD)
    centre = add(neck, scale(up, 0.2 * k))
    body.blob(centre, (0.088, 0.122, 0.1), axes, wear.skin, HEAD)
    crown = add(add(centre, scale(up, 0.035 * k)), scale(axes[2], -0.025 * k))
    body.blob(crown, (0.096, 0.105, 0.1), axes, wear.hair, HEAD)


def _arm(body: _Body, shoulder: Vec, sign: float, pose: _Pose, i: int, wear: _Outfit) -> None:
    k = body.k
    down = _spread(_swing((0.0, -1.0, 0.0), pose.shoulder[i]), sign * pose.raise_[i])
    elbow = add(shoulder, scale(down, 0.29 * k))
    bent = _spread(
        _swing((0.0, -1.0, 0.0), pose.shoulder[i] + pose.elbow[i]), sign * pose.raise_[i] * 1.1
    )
    wrist = add(elbow, scale(bent, 0.25 * k))
    body.limb(shoulder, elbow, 0.058, wear.shirt, UPPER_ARM)
    body.limb(elbow, wrist, 0.047, wear.sleeve, LOWER_ARM)
    body.blob(
        add(wrist, scale(bent, 0.07 * k)), (0.045, 0.075, 0.04), along(bent), wear.skin, LOWER_ARM
    )


def _leg(body: _Body, hip: Vec, sign: float, pose: _Pose, i: int, wear: _Outfit) -> float:
    k = body.k
    thigh = _spread(_swing((0.0, -1.0, 0.0), pose.hip[i]), sign * pose.stance[i])
    knee = add(hip, scale(thigh, 0.42 * k))
    shank = _spread(
        _swing(_swing((0.0, -1.0, 0.0), pose.hip[i]), -pose.knee[i]), sign * pose.stance[i] * 0.5
    )
    ankle = add(knee, scale(shank, 0.41 * k))
    body.limb(hip, knee, 0.082, wear.trousers, UPPER_LEG)
    body.limb(knee, ankle, 0.06, wear.shank, LOWER_LEG)
    toe = unit(cross((1.0, 0.0, 0.0), scale(shank, -1.0)))
    side = (1.0, 0.0, 0.0)
    up = unit(cross(toe, side))
    axes = (unit(cross(up, toe)), up, toe)
    foot = add(add(ankle, scale(toe, 0.06 * k)), scale(up, -0.03 * k))
    body.blob(foot, (0.055, 0.05, 0.13), axes, wear.shoes, LOWER_LEG)
    return ankle[1] - 0.085 * k
