"""Furniture, balls, lamps and pillars, each built around the origin of its own frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from medusa_tasks.datasets.rooms.figures import SIT, figure
from medusa_tasks.datasets.rooms.geometry import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    UPRIGHT,
    Axes,
    Solid,
    Vec,
    add,
    along,
    turned,
    world,
)
from medusa_tasks.datasets.rooms.materials import (
    BOOKS,
    PANELS,
    Material,
    fabric,
    glowing,
    painted,
    patterned,
    shade,
    wood,
)
from medusa_tasks.datasets.rooms.scene import BALL, CABINET, CHAIR, LAMP, PILLAR, SOFA, TABLE
from medusa_tasks.datasets.rooms.stream import Stream


@dataclass(slots=True)
class Piece:
    """One or more objects that are placed together; instances are counted from 0.

    half: half extents of the footprint along local x and z. lamp: where a lit lamp shines from,
    and which instance it is. top: height of a free table top, 0 where there is none.
    """

    half: tuple[float, float]
    solids: list[Solid] = field(default_factory=list)
    instances: int = 1
    lamp: tuple[Vec, int] | None = None
    top: float = 0.0

    def box(
        self, label: int, at: Vec, half: Vec, material: Material, front: Material | None = None
    ) -> None:
        """Add a box; front is the material of its +z face."""
        instance = self.instances - 1
        self.solids.append(Solid(BOX, at, half, UPRIGHT, material, label, instance, 0, front))

    def rod(
        self, label: int, at: Vec, radius: float, half: float, material: Material, grow: float = 0.0
    ) -> None:
        """Add an upright cylinder, or a frustum if it grows."""
        size = (radius, half, grow)
        instance = self.instances - 1
        self.solids.append(Solid(CYLINDER, at, size, UPRIGHT, material, label, instance))

    def legs(
        self, label: int, x: float, z: float, height: float, thick: float, m: Material
    ) -> None:
        """Add four legs inside a rectangle of half sizes x and z."""
        for sx in (-1.0, 1.0):
            for sz in (-1.0, 1.0):
                at = (sx * (x - thick), height * 0.5, sz * (z - thick))
                self.box(label, at, (thick, height * 0.5, thick), m)

    def include(self, other: Piece, at: Vec, t: float) -> None:
        """Put another piece here, turned; its objects keep their own identity."""
        first = self.instances
        self.solids += moved(other.solids, at, turned(t), first)
        if other.lamp:
            self.lamp = (add(at, world(turned(t), other.lamp[0])), other.lamp[1] + first)
        self.instances += other.instances


def moved(solids: list[Solid], at: Vec, axes: Axes, first: int) -> list[Solid]:
    """Solids of a local frame in the world (axes: the frame's x, y, z)."""
    return [
        replace(
            solid,
            centre=add(at, world(axes, solid.centre)),
            axes=(
                world(axes, solid.axes[0]),
                world(axes, solid.axes[1]),
                world(axes, solid.axes[2]),
            ),
            instance=solid.instance + first,
        )
        for solid in solids
    ]


def table(s: Stream) -> Piece:
    """A dining or coffee table, rectangular or round."""
    surface = wood(s) if s.chance(0.65) else painted(s)
    legs = surface if s.chance(0.6) else painted(s)
    low = s.chance(0.3)
    height = s.uniform(0.36, 0.48) if low else s.uniform(0.68, 0.78)
    if s.chance(0.28):
        radius = s.uniform(0.38, 0.6)
        piece = Piece((radius, radius), top=height)
        piece.rod(TABLE, (0.0, height - 0.02, 0.0), radius, 0.02, surface)
        piece.rod(TABLE, (0.0, height * 0.5 - 0.02, 0.0), 0.05, height * 0.5 - 0.02, legs)
        piece.rod(TABLE, (0.0, 0.02, 0.0), radius * 0.5, 0.02, legs)
        return piece
    x, z = s.uniform(0.45, 0.85), s.uniform(0.32, 0.5)
    piece = Piece((x, z), top=height)
    thick = s.uniform(0.018, 0.035)
    piece.box(TABLE, (0.0, height - thick, 0.0), (x, thick, z), surface)
    piece.legs(TABLE, x - 0.02, z - 0.02, height - 2.0 * thick, s.uniform(0.025, 0.045), legs)
    return piece


def chair(s: Stream) -> Piece:
    """A chair with one of three kinds of back."""
    frame = wood(s) if s.chance(0.55) else painted(s)
    seat = fabric(s) if s.chance(0.5) else frame
    height, half = s.uniform(0.42, 0.48), s.uniform(0.2, 0.25)
    piece = Piece((half, half))
    piece.box(CHAIR, (0.0, height - 0.025, 0.0), (half, 0.025, half), seat)
    piece.legs(CHAIR, half, half, height - 0.05, s.uniform(0.018, 0.026), frame)
    back = s.uniform(0.38, 0.55)
    style = s.integer(0, 2)
    if style == 0:
        at = (0.0, height + back * 0.5, -half + 0.02)
        piece.box(CHAIR, at, (half, back * 0.5, 0.02), seat)
        return piece
    for sx in (-1.0, 1.0):
        at = (sx * (half - 0.02), height + back * 0.5, -half + 0.02)
        piece.box(CHAIR, at, (0.02, back * 0.5, 0.02), frame)
    rails = (0.85,) if style == 1 else (0.85, 0.5)
    for level in rails:
        at = (0.0, height + back * level, -half + 0.02)
        thick = 0.15 if style == 1 else 0.09
        piece.box(CHAIR, at, (half - 0.02, back * thick * 1.2, 0.014), seat)
    return piece


def sofa(s: Stream) -> Piece:
    """An armchair or a sofa for two or three."""
    cloth = fabric(s)
    cushion = cloth if s.chance(0.6) else fabric(s)
    seats = s.integer(1, 3)
    width = (0.62, 0.56, 0.54)[seats - 1] * seats
    arm, depth = s.uniform(0.08, 0.13), s.uniform(0.38, 0.46)
    half = width * 0.5 + 2.0 * arm
    piece = Piece((half, depth))
    piece.box(SOFA, (0.0, 0.16, 0.0), (half - 0.02, 0.12, depth), cloth)
    back = s.uniform(0.36, 0.46)
    piece.box(SOFA, (0.0, back, -depth + 0.12), (half - 0.02, back, 0.12), cloth)
    high = s.uniform(0.27, 0.32)
    for sx in (-1.0, 1.0):
        piece.box(SOFA, (sx * (half - arm), high, 0.0), (arm, high, depth), cloth)
    each = width / seats
    for i in range(seats):
        x = (i + 0.5) * each - width * 0.5
        piece.box(SOFA, (x, 0.35, 0.09), (each * 0.48, 0.075, depth - 0.1), cushion)
    return piece


def cabinet(s: Stream) -> Piece:
    """A closed cupboard, wardrobe or sideboard."""
    body = wood(s) if s.chance(0.5) else painted(s)
    x, z = s.uniform(0.35, 0.85), s.uniform(0.2, 0.3)
    tall = s.chance(0.45)
    height = s.uniform(1.5, 2.1) if tall else s.uniform(0.6, 1.1)
    piece = Piece((x, z), top=0.0 if tall else height)
    front = replace(
        body,
        pattern=PANELS,
        second=shade(body.colour, s.choice((0.55, 0.7))),
        scale=s.uniform(0.35, 0.5),
        seed=s.integer(0, 1),
    )
    piece.box(CABINET, (0.0, height * 0.5 + 0.03, 0.0), (x, height * 0.5 - 0.03, z), body, front)
    piece.box(CABINET, (0.0, 0.03, -0.02), (x - 0.04, 0.03, z - 0.04), body)
    return piece


def shelf(s: Stream) -> Piece:
    """An open shelf with books."""
    body = wood(s) if s.chance(0.6) else painted(s)
    x, z, boards = s.uniform(0.35, 0.7), s.uniform(0.14, 0.18), s.integer(2, 5)
    pitch = s.uniform(0.32, 0.38)
    height = boards * pitch
    piece = Piece((x, z))
    for sx in (-1.0, 1.0):
        piece.box(CABINET, (sx * (x - 0.02), height * 0.5, 0.0), (0.02, height * 0.5, z), body)
    for i in range(boards + 1):
        y = min(max(i * pitch, 0.02), height - 0.02)
        piece.box(CABINET, (0.0, y, 0.0), (x - 0.03, 0.02, z), body)
    books = Material(
        shade(body.colour, 0.45), body.colour, BOOKS, pitch, 0.0, 0.0, s.integer(0, 1 << 20)
    )
    piece.box(
        CABINET, (0.0, height * 0.5, -0.05), (x - 0.03, height * 0.5 - 0.01, z - 0.06), books, books
    )
    return piece


def ball(s: Stream) -> Piece:
    """A ball on the floor."""
    radius = s.uniform(0.14, 0.36)
    piece = Piece((radius, radius))
    size = (radius, radius, radius)
    material = replace(patterned(s, 0.45), gloss=s.uniform(0.0, 0.5), scale=radius * 0.6)
    axes = along((s.uniform(-1.0, 1.0), 1.0, s.uniform(-1.0, 1.0)))
    piece.solids.append(Solid(ELLIPSOID, (0.0, radius, 0.0), size, axes, material, BALL, 0))
    return piece


def pillar(s: Stream, height: float) -> Piece:
    """A round or square pillar from floor to ceiling."""
    stone = painted(s) if s.chance(0.4) else patterned(s, 0.2)
    radius = s.uniform(0.12, 0.24)
    piece = Piece((radius, radius))
    half = height * 0.5
    if s.chance(0.7):
        piece.rod(PILLAR, (0.0, half, 0.0), radius, half, stone)
    else:
        piece.box(PILLAR, (0.0, half, 0.0), (radius, half, radius), stone)
    for y in (0.06, height - 0.06):
        piece.rod(PILLAR, (0.0, y, 0.0), radius * 1.35, 0.06, stone)
    return piece


def floor_lamp(s: Stream, lit: bool) -> Piece:
    """A standing lamp."""
    metal, height = painted(s), s.uniform(1.3, 1.75)
    radius, half = s.uniform(0.18, 0.26), s.uniform(0.13, 0.2)
    piece = Piece((0.2, 0.2))
    piece.rod(LAMP, (0.0, 0.02, 0.0), 0.16, 0.02, metal)
    piece.rod(LAMP, (0.0, height * 0.5, 0.0), 0.02, height * 0.5, metal)
    shade_ = glowing(s, 0.9) if lit else fabric(s)
    piece.rod(LAMP, (0.0, height, 0.0), radius, half, shade_, s.uniform(-0.45, 0.0))
    piece.lamp = ((0.0, height + half + 0.02, 0.0), 0) if lit else None
    return piece


def table_lamp(s: Stream, lit: bool) -> Piece:
    """A lamp for a table top, its foot at the origin."""
    foot = painted(s)
    radius = s.uniform(0.05, 0.09)
    piece = Piece((0.15, 0.15))
    size = (radius, radius * 1.2, radius)
    at = (0.0, radius * 1.2, 0.0)
    piece.solids.append(Solid(ELLIPSOID, at, size, UPRIGHT, foot, LAMP, 0))
    shade_ = glowing(s, 0.9) if lit else fabric(s)
    y = radius * 2.4 + 0.12
    piece.rod(LAMP, (0.0, y, 0.0), s.uniform(0.12, 0.17), 0.1, shade_, s.uniform(-0.5, 0.0))
    piece.lamp = ((0.0, y + 0.12, 0.0), 0) if lit else None
    return piece


def hanging_lamp(s: Stream, ceiling: float, lit: bool) -> Piece:
    """A lamp on a cord from the ceiling."""
    drop, radius = s.uniform(0.25, 0.6), s.uniform(0.16, 0.28)
    piece = Piece((radius, radius))
    metal = painted(s)
    bulb = glowing(s, 1.0) if lit else painted(s)
    y = ceiling - drop
    piece.rod(LAMP, (0.0, ceiling - drop * 0.5, 0.0), 0.012, drop * 0.5, metal)
    if s.chance(0.5):
        size = (radius, radius * s.uniform(0.6, 1.0), radius)
        piece.solids.append(Solid(ELLIPSOID, (0.0, y, 0.0), size, UPRIGHT, bulb, LAMP, 0))
    else:
        piece.rod(LAMP, (0.0, y, 0.0), radius, 0.1, bulb, s.uniform(-0.8, -0.3))
    piece.lamp = ((0.0, y, 0.0), 0) if lit else None
    return piece


def person(s: Stream, kind: int) -> Piece:
    """A figure; a sitting one comes with its chair."""
    if kind != SIT:
        piece = Piece((0.38, 0.35))
        piece.solids = figure(s, kind, 0.0, 0)
        return piece
    piece = chair(s)
    seat = piece.solids[0].centre[1] + 0.025
    piece.solids += figure(s, kind, seat, 1)
    piece.instances = 2
    piece.half = (0.38, 0.5)
    return piece


def dining(s: Stream) -> Piece:
    """A table with things on it and chairs around it."""
    piece = table(s)
    x, z = piece.half
    if piece.top > 0.6:
        for sign, base in ((1.0, 40.0), (-1.0, 0.0)):
            if s.chance(0.65):
                at = (s.uniform(-0.5, 0.5) * x, 0.0, sign * (z + s.uniform(0.05, 0.3)))
                piece.include(chair(s), at, base + s.uniform(-0.15, 0.15))
        piece.half = (x, z + 0.45)
    decorate(s, piece, x, z)
    return piece


def decorate(s: Stream, piece: Piece, x: float, z: float) -> None:
    """Put a lamp or a ball on a free top."""
    if piece.top <= 0.0 or not s.chance(0.5):
        return
    at = (s.uniform(-0.6, 0.6) * x, piece.top, s.uniform(-0.4, 0.4) * z)
    if s.chance(0.6):
        piece.include(table_lamp(s, s.chance(0.6)), at, 0.0)
    else:
        thing = ball(s)
        ratio = 0.12 / thing.half[0]
        first = thing.solids[0]
        small = replace(first, size=(0.12, 0.12, 0.12), centre=(0.0, 0.12, 0.0))
        small = replace(small, material=replace(first.material, scale=first.material.scale * ratio))
        thing.solids = [small]
        piece.include(thing, at, 0.0)
