"""Samples a whole scene: room, camera, what stands where, what hangs on the walls, light."""

from __future__ import annotations

from dataclasses import replace

from medusa_tasks.datasets.rooms import furniture
from medusa_tasks.datasets.rooms.decoration import decorate_floor, decorate_walls
from medusa_tasks.datasets.rooms.figures import REACH, SIT, STAND, WALK, WAVE
from medusa_tasks.datasets.rooms.furniture import Piece, moved
from medusa_tasks.datasets.rooms.geometry import (
    Axes,
    Solid,
    Vec,
    add,
    cos_sin,
    cross,
    dot,
    facing,
    scale,
    sub,
    turned,
    unit,
    world,
)
from medusa_tasks.datasets.rooms.materials import TILES, Material, flooring, hsv, shade, wallpaper
from medusa_tasks.datasets.rooms.scene import Camera, Light, Room, Scene
from medusa_tasks.datasets.rooms.stream import Stream

_QUARTERS = (0.0, 1.0, 1e9, -1.0)
"""Half-angle tangents of 0, 90, 180 and 270 degrees."""


def sample_scene(s: Stream) -> Scene:
    """Draw a scene; accents and salient objects are left open."""
    room = _room(s)
    camera = _camera(s, room.size)
    builder = _Builder(s, room, camera)
    builder.people()
    builder.along_walls()
    builder.interior()
    regions = decorate_walls(s, room.size, camera) + decorate_floor(s, room.size, camera)
    tint = hsv(s.uniform(0.0, 6.0), s.uniform(0.0, 0.1), 1.0)
    strength = s.uniform(0.18, 0.36)
    return Scene(
        room=room,
        camera=camera,
        regions=regions,
        solids=builder.solids,
        lights=builder.lighting(),
        ambient=(tint[0] * strength, tint[1] * strength, tint[2] * strength),
        exposure=s.uniform(0.54, 0.7),
        noise=s.uniform(0.004, 0.016),
        seed=s.integer(0, 1 << 40),
    )


def _room(s: Stream) -> Room:
    size = (s.uniform(3.6, 7.5), s.uniform(2.35, 3.3), s.uniform(3.6, 7.5))
    paper = wallpaper(s)
    walls = [paper] * 4
    if s.chance(0.35):
        walls[s.integer(0, 3)] = wallpaper(s)
    white = hsv(1.0, s.uniform(0.0, 0.08), s.uniform(0.82, 0.96))
    ceiling = Material(white, shade(white, 0.92))
    if s.chance(0.2):
        ceiling = replace(ceiling, pattern=TILES, scale=s.uniform(0.5, 0.7))
    materials = (walls[0], walls[1], flooring(s), ceiling, walls[2], walls[3])
    return Room(
        size=size,
        materials=materials,
        skirting=shade(white, s.choice((1.0, 0.9, 0.3))),
        skirting_height=s.uniform(0.06, 0.14),
        wainscot=shade(paper.colour, s.choice((0.6, 0.75, 1.2))) if s.chance(0.25) else None,
        wainscot_height=s.uniform(0.75, 1.1),
    )


def _camera(s: Stream, size: Vec) -> Camera:
    """Near the edge of the room, looking across it."""
    width, height, depth = size
    x, z = s.uniform(0.12, 0.88) * width, s.uniform(0.08, 0.24) * depth
    if s.chance(0.5):
        z = depth - z
    if s.chance(0.5):
        x, z = z * width / depth, x * depth / width
    position = (x, s.uniform(1.05, min(1.85, height - 0.6)), z)
    target = (s.uniform(0.3, 0.7) * width, 0.0, s.uniform(0.3, 0.7) * depth)
    flat = facing(sub(target, position))
    pitch, roll = s.uniform(-0.03, 0.17), s.uniform(-0.025, 0.025)
    c, n = cos_sin(pitch)
    forward = add(scale(flat[2], c), (0.0, -n, 0.0))
    right = cross(forward, (0.0, 1.0, 0.0))
    right = unit(right)
    up = cross(right, forward)
    c, n = cos_sin(roll)
    tilted = add(scale(right, c), scale(up, n))
    axes = (tilted, cross(tilted, forward), forward)
    return Camera(position, axes, s.uniform(0.5, 0.68))


class _Builder:
    """Puts pieces into the room so that their footprints keep apart."""

    def __init__(self, s: Stream, room: Room, camera: Camera) -> None:
        self.s, self.size, self.camera = s, room.size, camera
        x, _, z = camera.position
        self.taken = [(x - 0.5, x + 0.5, z - 0.5, z + 0.5)]
        self.solids: list[Solid] = []
        self.instances = 0
        self.lamps: list[Light] = []
        forward = camera.axes[2]
        self.forward = unit((forward[0], 0.0, forward[2]))
        self.right = cross(self.forward, (0.0, 1.0, 0.0))

    def view(self, at: Vec) -> tuple[float, float]:
        """Distance along the view and sideways, both on the floor plane."""
        away = sub(at, self.camera.position)
        return dot(away, self.forward), dot(away, self.right)

    def seen(self, at: Vec) -> bool:
        ahead, aside = self.view(at)
        return ahead > 1.1 and abs(aside) < ahead * self.camera.slope * 1.3

    def place(self, piece: Piece, at: Vec, axes: Axes, gap: float, solid: bool = True) -> bool:
        """Put a piece here if it is free; axes are those of the piece's frame."""
        x, z = axes[0], axes[2]
        half_x = abs(x[0]) * piece.half[0] + abs(z[0]) * piece.half[1]
        half_z = abs(x[2]) * piece.half[0] + abs(z[2]) * piece.half[1]
        area = (at[0] - half_x, at[0] + half_x, at[2] - half_z, at[2] + half_z)
        if area[0] < 0.0 or area[1] > self.size[0] or area[2] < 0.0 or area[3] > self.size[2]:
            return False
        for other in self.taken if solid else self.taken[:1]:
            apart = max(
                area[0] - other[1], other[0] - area[1], area[2] - other[3], other[2] - area[3]
            )
            if apart < gap:
                return False
        if solid:
            self.taken.append(area)
        self.solids += moved(piece.solids, at, axes, self.instances)
        if piece.lamp:
            where, owner = piece.lamp
            warm = hsv(self.s.uniform(0.6, 1.0), self.s.uniform(0.1, 0.35), 1.0)
            power = self.s.uniform(0.35, 0.7)
            self.lamps.append(
                Light(
                    add(at, world(axes, where)),
                    (warm[0] * power, warm[1] * power, warm[2] * power),
                    self.s.uniform(1.2, 2.2),
                    owner + self.instances,
                )
            )
        self.instances += piece.instances
        return True

    def spot(self, margin: float, in_view: bool) -> Vec:
        """A random place on the floor, most often one the camera looks at."""
        at = (0.0, 0.0, 0.0)
        for _ in range(12):
            at = (
                self.s.uniform(margin, self.size[0] - margin),
                0.0,
                self.s.uniform(margin, self.size[2] - margin),
            )
            if not in_view or self.seen(at):
                break
        return at

    def people(self) -> None:
        s = self.s
        count = s.choice((0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2))
        for _ in range(count):
            kind = s.choice((STAND, STAND, WALK, WALK, WAVE, REACH, REACH, SIT, SIT))
            piece = furniture.person(s, kind)
            for _ in range(14):
                ahead = s.uniform(1.6, 3.9)
                aside = ahead * self.camera.slope * s.uniform(-1.05, 1.05)
                at = add(scale(self.forward, ahead), scale(self.right, aside))
                at = (self.camera.position[0] + at[0], 0.0, self.camera.position[2] + at[2])
                axes = turned(s.uniform(-1.0, 1.0) if s.chance(0.7) else -1.0 / s.uniform(0.1, 1.0))
                if s.chance(0.5):
                    look = (s.uniform(-0.8, 0.8), 0.0, s.uniform(-0.8, 0.8))
                    axes = facing(sub(look, self.forward))
                if self.place(piece, at, axes, 0.15):
                    break

    def along_walls(self) -> None:
        s = self.s
        makers = [furniture.cabinet, furniture.shelf, furniture.sofa]
        for make in s.shuffled([*makers, s.choice(makers), furniture.table])[: s.integer(2, 5)]:
            piece = make(s)
            if piece.top > 0.0:
                furniture.decorate(s, piece, piece.half[0], piece.half[1])
            for _ in range(10):
                wall = s.integer(0, 3)
                axes = turned(_QUARTERS[wall])
                back = piece.half[1] + 0.015
                across = self.size[0] if wall % 2 == 0 else self.size[2]
                if across < 2.0 * piece.half[0] + 0.1:
                    continue
                along = s.uniform(piece.half[0] + 0.02, across - piece.half[0] - 0.02)
                at = (
                    (along, 0.0, back),
                    (back, 0.0, along),
                    (along, 0.0, self.size[2] - back),
                    (self.size[0] - back, 0.0, along),
                )[wall]
                if not self.seen(at) and not s.chance(0.15):
                    continue
                if self.place(piece, at, axes, 0.06):
                    break

    def interior(self) -> None:
        s = self.s
        pieces: list[tuple[Piece, float]] = []
        if s.chance(0.6):
            pieces.append((furniture.dining(s), 0.3))
        if s.chance(0.4):
            pieces.append((furniture.sofa(s), 0.2))
        if s.chance(0.4):
            pieces.append((furniture.pillar(s, self.size[1]), 0.3))
        if s.chance(0.4):
            pieces.append((furniture.floor_lamp(s, s.chance(0.6)), 0.1))
        pieces += [(furniture.chair(s), 0.1) for _ in range(s.integer(0, 3))]
        pieces += [(furniture.ball(s), 0.06) for _ in range(s.choice((0, 1, 1, 2, 2, 3)))]
        for piece, gap in pieces:
            for _ in range(8):
                at = self.spot(0.3, not s.chance(0.1))
                if self.place(piece, at, turned(s.uniform(-1.2, 1.2)), gap):
                    break
        for _ in range(s.choice((0, 1, 1, 2))):
            piece = furniture.hanging_lamp(s, self.size[1], s.chance(0.7))
            for _ in range(6):
                at = self.spot(0.5, not s.chance(0.2))
                if self.place(piece, at, turned(0.0), 0.1, solid=False):
                    break

    def lighting(self) -> list[Light]:
        """One strong light near the ceiling, and the first lit lamp."""
        s = self.s
        width, height, depth = self.size
        place = (
            s.uniform(0.2, 0.8) * width,
            height - s.uniform(0.25, 0.7),
            s.uniform(0.2, 0.8) * depth,
        )
        tint = hsv(s.choice((0.6, 0.8, 1.0, 3.4)), s.uniform(0.0, 0.22), 1.0)
        key = Light(place, tint, s.uniform(3.0, 5.5))
        lamps = sorted(self.lamps, key=lambda lamp: -self.view(lamp.position)[0])
        if lamps and s.chance(0.35):
            lamp = lamps[0]
            return [replace(lamp, colour=hsv(0.8, 0.15, 1.0), reach=key.reach)]
        return [key, *lamps[:1]]
