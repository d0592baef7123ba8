"""Class names of PASCAL_MT: objects and body parts."""

from __future__ import annotations

from collections.abc import Mapping

from medusa_core.api import LabelSchema
from medusa_core.api.specs import RGB


def _voc_colour(number: int) -> RGB:
    """The colour VOC draws a class in: bits of its number, spread over the three channels."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


OBJECTS = LabelSchema(
    names=(
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
    palette=tuple(_voc_colour(number) for number in range(21)),
)

PARTS = LabelSchema(
    names=("background", "head", "torso", "upper_arm", "lower_arm", "upper_leg", "lower_leg"),
)
"""Left and right are one class, so a flip exchanges nothing."""

PART_NUMBERS: Mapping[str, int] = {
    part: number
    for number, parts in {
        1: "head hair lear rear lebrow rebrow leye reye nose mouth",
        2: "torso neck",
        3: "luarm ruarm",
        4: "llarm rlarm lhand rhand",
        5: "luleg ruleg",
        6: "llleg rlleg lfoot rfoot",
    }.items()
    for part in parts.split()
}
"""Part names of PASCAL-Parts (Chen et al., CVPR 2014) → number in `PARTS`: the grouping into six
that ASTMT and its successors evaluate."""
