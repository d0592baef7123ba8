"""What is painted on the room's faces: doors, windows, pictures and rugs."""

from __future__ import annotations

from dataclasses import replace

from medusa_tasks.datasets.rooms.geometry import Vec
from medusa_tasks.datasets.rooms.materials import (
    CHECKER,
    DOTS,
    NOISE,
    PLAID,
    PLAIN,
    STRIPES,
    Material,
    hsv,
    muted,
    painted,
    patterned,
    shade,
    wood,
)
from medusa_tasks.datasets.rooms.scene import DOOR, PICTURE, RUG, WINDOW, Camera, Region
from medusa_tasks.datasets.rooms.stream import Stream

_WALL_FACES = (0, 1, 4, 5)


def decorate_walls(s: Stream, size: Vec, camera: Camera) -> list[Region]:
    """Doors, windows and pictures, side by side on each wall."""
    regions: list[Region] = []
    forward = camera.axes[2]
    for face in _WALL_FACES:
        along = size[2] if face < 2 else size[0]
        normal = forward[0] if face < 2 else forward[2]
        ahead = normal if face in (1, 5) else -normal
        if ahead < -0.5:
            continue
        at = s.uniform(0.1, 0.5)
        for _ in range(5):
            kind = s.choice((DOOR, WINDOW, WINDOW, PICTURE, PICTURE, PICTURE, None))
            if kind is None:
                at += s.uniform(0.4, 1.2)
                continue
            region = {DOOR: _door, WINDOW: _window, PICTURE: _picture}[kind](s, size[1])
            if at + 2.0 * region.half[0] > along - 0.1:
                continue
            centre = (at + region.half[0], region.centre[1])
            regions.append(replace(region, face=face, centre=centre))
            at += 2.0 * region.half[0] + s.uniform(0.15, 0.7)
    return regions


def _door(s: Stream, height: float) -> Region:
    top = min(s.uniform(1.95, 2.1), height - 0.1)
    frame = painted(s)
    leaf = wood(s) if s.chance(0.6) else painted(s)
    half = (s.uniform(0.42, 0.52), top * 0.5)
    return Region(
        0, DOOR, (0.0, top * 0.5), half, s.uniform(0.05, 0.09), frame, leaf, style=s.integer(0, 2)
    )


def _window(s: Stream, height: float) -> Region:
    low = s.uniform(0.75, 1.05)
    half = (s.uniform(0.4, 0.95), 0.5 * (height - s.uniform(0.25, 0.4) - low))
    frame = replace(painted(s), gloss=0.1)
    if s.chance(0.6):
        white = (0.93, 0.93, 0.91)
        frame = replace(frame, colour=white, second=white)
    sky = hsv(s.uniform(3.2, 3.6), s.uniform(0.08, 0.45), s.uniform(0.88, 1.0))
    land = hsv(s.uniform(1.2, 2.6), s.uniform(0.2, 0.45), s.uniform(0.35, 0.65))
    view = Material(sky, land, PLAIN, 0.3, 0.0, s.uniform(0.7, 1.0), s.integer(0, 1 << 20))
    return Region(
        0,
        WINDOW,
        (0.0, low + half[1]),
        half,
        s.uniform(0.04, 0.07),
        frame,
        view,
        style=s.integer(0, 3),
    )


def _picture(s: Stream, height: float) -> Region:
    half = (s.uniform(0.16, 0.55), s.uniform(0.16, 0.42))
    base = hsv(s.uniform(0.0, 6.0), s.uniform(0.1, 0.6), s.uniform(0.4, 0.9))
    second = hsv(s.uniform(0.0, 6.0), s.uniform(0.1, 0.6), s.uniform(0.2, 0.9))
    pattern = s.choice((NOISE, NOISE, STRIPES, CHECKER, DOTS, PLAID))
    content = Material(base, second, pattern, s.uniform(0.12, 0.3), 0.0, 0.0, s.integer(0, 1 << 20))
    frame = wood(s) if s.chance(0.5) else painted(s)
    dark = frame.colour if s.chance(0.5) else shade(muted(s), 0.3)
    frame = replace(frame, colour=dark, second=shade(dark, 0.8))
    y = min(s.uniform(1.35, 1.75), height - half[1] - 0.1)
    return Region(
        0, PICTURE, (0.0, y), half, s.uniform(0.02, 0.05), frame, content, style=s.integer(0, 1)
    )


def decorate_floor(s: Stream, size: Vec, camera: Camera) -> list[Region]:
    """At most one rug, where the camera looks."""
    if not s.chance(0.62):
        return []
    half = (s.uniform(0.7, 1.3), s.uniform(0.5, 0.95))
    ahead = s.uniform(1.6, 3.2)
    forward, at = camera.axes[2], camera.position
    x = min(max(at[0] + forward[0] * ahead, 1.0), size[0] - 1.0)
    z = min(max(at[2] + forward[2] * ahead, 1.0), size[2] - 1.0)
    t = s.uniform(-0.3, 0.3)
    below = 1.0 + t * t
    turn = ((1.0 - t * t) / below, 2.0 * t / below)
    content = patterned(s, 0.5)
    edge = shade(content.colour, s.choice((0.55, 1.4)))
    frame = replace(content, pattern=PLAIN, colour=edge, second=edge)
    round_ = s.chance(0.35)
    if round_:
        half = (half[0] * 0.8, half[0] * 0.8)
    return [Region(2, RUG, (x, z), half, s.uniform(0.05, 0.14), frame, content, turn, round_)]
