"""Decides what stands out in a scene."""

from __future__ import annotations

from medusa_tasks.datasets.rooms.materials import accent_colour
from medusa_tasks.datasets.rooms.render import cast
from medusa_tasks.datasets.rooms.scene import (
    BALL,
    CABINET,
    CHAIR,
    PERSON,
    PILLAR,
    SOFA,
    TABLE,
    Scene,
)
from medusa_tasks.datasets.rooms.stream import Stream

_PROBE = (24, 32)
_PERSON_PIXELS, _OBJECT_PIXELS = 4, 6
_LOUD = (BALL, CABINET, CHAIR, PILLAR, SOFA, TABLE)


def choose_accents(scene: Scene, s: Stream) -> None:
    """Fill in `scene.accents` and `scene.salient`.

    If persons are noticeable they are salient, and in half of these scenes some object has an
    accent colour all the same. Otherwise the one object with an accent colour is salient. What is
    noticeable is decided on a coarse rendering, so that it does not depend on the image size.
    """
    counts = _visible(scene)
    labels = {solid.instance: solid.label for solid in scene.solids}
    people = [i for i, n in counts.items() if labels[i] == PERSON and n >= _PERSON_PIXELS]
    loud = [i for i, n in counts.items() if labels[i] in _LOUD and n >= _OBJECT_PIXELS]
    chosen = [s.choice(loud)] if loud else []
    colour = accent_colour(s)
    if people and s.chance(0.5):
        chosen = []
    scene.accents = dict.fromkeys(chosen, colour)
    if people:
        scene.salient = frozenset(i for i, label in labels.items() if label == PERSON)
    else:
        scene.salient = frozenset(chosen)


def _visible(scene: Scene) -> dict[int, int]:
    """Instance → coarse pixels it covers, most visible classes of solids only."""
    view = cast(scene, *_PROBE)
    counts: dict[int, int] = {}
    groups = view.groups
    for i, number in enumerate(groups.present):
        if number >= scene.first_solid:
            instance = scene.solids[number - scene.first_solid].instance
            size = groups.bounds[i + 1] - groups.bounds[i]
            counts[instance] = counts.get(instance, 0) + size
    return counts
