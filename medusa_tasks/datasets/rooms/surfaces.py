"""The colour of every surface: room faces, painted regions, solids."""

from __future__ import annotations

import numpy as np

from medusa_tasks.datasets.rooms.geometry import BOX, Solid
from medusa_tasks.datasets.rooms.intersect import Arrays
from medusa_tasks.datasets.rooms.materials import RGB, Material, accented, shade
from medusa_tasks.datasets.rooms.render import face_coordinates, region_coordinates
from medusa_tasks.datasets.rooms.scene import DOOR, FACES, PICTURE, RUG, WINDOW, Region, Scene
from medusa_tasks.datasets.rooms.textures import hashed, paint

Colour = tuple[np.ndarray, ...]


def _where(mask: np.ndarray, colour: RGB | Colour, other: Colour) -> Colour:
    return tuple(np.where(mask, colour[k], other[k]) for k in range(3))


def colour_of(
    scene: Scene, number: int, place: Arrays, inside: Arrays, blur: np.ndarray
) -> tuple[Colour, float | np.ndarray, float]:
    """Displayed colour, glow and gloss of points on one surface.

    Args:
        scene: what is rendered.
        number: the surface.
        place: points in the frame of the surface.
        inside: normals in that frame.
        blur: width of a pixel on the surface in metres.
    """
    if number < FACES:
        return _face(scene, number, place, blur)
    if number < scene.first_solid:
        region = scene.regions[number - FACES]
        a, b = face_coordinates(region.face, place)
        return _region(region, a, b, blur)
    solid = scene.solids[number - scene.first_solid]
    return _solid(solid, scene.accents.get(solid.instance), place, inside, blur)


def _face(
    scene: Scene, face: int, p: Arrays, blur: np.ndarray
) -> tuple[Colour, float | np.ndarray, float]:
    room = scene.room
    material = room.materials[face]
    a, b = face_coordinates(face, p)
    colour = paint(material, a, b, blur)
    if face in (2, 3):
        return colour, 0.0, material.gloss
    if room.wainscot is not None:
        height = room.wainscot_height
        colour = _where(b < height, room.wainscot, colour)
        rail = (b > height - 0.03) & (b < height + 0.02)
        colour = _where(rail, room.skirting, colour)
    return _where(b < room.skirting_height, room.skirting, colour), 0.0, material.gloss


def _region(
    region: Region, a: np.ndarray, b: np.ndarray, blur: np.ndarray
) -> tuple[Colour, float | np.ndarray, float]:
    x, y = region_coordinates(region, a, b)
    half_x, half_y = region.half
    edge = np.minimum(half_x - np.abs(x), half_y - np.abs(y))
    if region.round:
        ring = half_x - region.border
        edge = np.where(x * x + y * y > ring * ring, 0.0, 1.0)
    border = edge < region.border
    frame = paint(region.frame, x, y, blur)
    glow: float | np.ndarray = 0.0
    if region.label == WINDOW:
        pane = _window(region, x, y)
        bars = border | _bars(region, x, y)
        return _where(bars, frame, pane), np.where(bars, 0.0, region.content.glow), 0.0
    content = paint(region.content, x, y, blur)
    if region.label == DOOR:
        content = _door(region, x, y, content)
        border &= y > region.border - half_y
    elif region.label == PICTURE and region.style == 1:
        content = _where(edge < region.border + 0.05, (0.93, 0.92, 0.88), content)
    gloss = 0.0 if region.label == RUG else region.content.gloss
    return _where(border, frame, content), glow, gloss


def _window(region: Region, x: np.ndarray, y: np.ndarray) -> Colour:
    """A sky that pales towards a hilly horizon."""
    m = region.content
    u = x * 1.7
    i = np.floor(u)
    part = u - i
    left, right = hashed(i, i * 0.0, m.seed), hashed(i + 1.0, i * 0.0, m.seed)
    horizon = (left + (right - left) * part) * 0.5 * region.half[1] - 0.55 * region.half[1]
    lift = np.minimum(np.maximum((y + region.half[1]) * (0.5 / region.half[1]), 0.0), 1.0)
    pale = tuple((1.0 - lift) * 0.5 + c * (0.5 + 0.5 * lift) for c in m.colour)
    return _where(y < horizon, m.second, pale)


def _bars(region: Region, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    thin = region.border * 0.45
    upright, level = np.abs(x) < thin, np.abs(y - 0.3 * region.half[1]) < thin
    if region.style == 0:
        return upright
    if region.style == 1:
        return upright | level
    if region.style == 2:
        return np.abs(np.abs(x) - region.half[0] * 0.36) < thin
    return level


def _door(region: Region, x: np.ndarray, y: np.ndarray, content: Colour) -> Colour:
    half_x, half_y = region.half[0] - region.border, region.half[1] - region.border * 0.5
    if region.style > 0:
        columns = 2.0 if region.style == 2 else 1.0
        u = (x * (0.5 / half_x) + 0.5) * columns
        v = (y * (0.5 / half_y) + 0.5) * 2.0
        u, v = np.abs(u - np.floor(u) - 0.5), np.abs(v - np.floor(v) - 0.5)
        groove = ((u > 0.30) & (u < 0.35) & (v < 0.40)) | ((v > 0.37) & (v < 0.40) & (u < 0.35))
        content = _where(groove, shade(region.content.colour, 0.6), content)
    px, py = x - half_x * 0.84, y + half_y * 0.05
    knob = (np.abs(px) < 0.045) & (np.abs(py) < 0.02)
    return _where(knob, (0.25, 0.24, 0.22), content)


def _solid(
    solid: Solid, accent: RGB | None, p: Arrays, n: Arrays, blur: np.ndarray
) -> tuple[Colour, float | np.ndarray, float]:
    material = _material(solid.material, accent)
    x, y, z = p
    if solid.kind != BOX:
        return paint(material, x + z, y, blur), material.glow, material.gloss
    if solid.size[1] > 0.9 * max(solid.size[0], solid.size[2]):
        # grain runs along the longest direction
        u, v = np.where(n[0] == 0.0, x, z), np.where(n[1] == 0.0, y, z)
    else:
        u, v = np.where(n[1] == 0.0, y, z), np.where(n[0] == 0.0, x, z)
    colour = paint(material, u, v, blur)
    if solid.front is not None:
        front = _material(solid.front, accent)
        panel = paint(front, x + solid.size[0], y + solid.size[1], blur)
        colour = _where(n[2] > 0.0, panel, colour)
    return colour, material.glow, material.gloss


def _material(material: Material, accent: RGB | None) -> Material:
    return material if accent is None else accented(material, accent)
