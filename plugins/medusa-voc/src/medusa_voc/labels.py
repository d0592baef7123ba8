"""Classes and colours: those of Pascal VOC, or those of a `labelmap.txt`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from medusa_core.api import LabelSchema
from medusa_core.data.files import exists, read_bounded
from medusa_core.errors import DataError

IGNORED = 255
BORDER = (224, 224, 192)
"""Colour of pixels that do not count, in VOC's own palette and in what is exported."""

MAX_LIST = 10_000_000
"""Bytes of a list of ids or classes: more than half a million lines."""

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)

_LINE = re.compile(r"(?P<name>[^:#]+):(?P<rgb>\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*)?:")
_UNUSED = {"ignored", "void"}


@dataclass(frozen=True)
class LabelMap:
    """Classes, and what the values of class maps stand for.

    numbers: number in a map → class, `IGNORED` for what counts as none.
    ignored: colours of what counts as none.
    """

    labels: LabelSchema
    numbers: tuple[int, ...]
    ignored: tuple[tuple[int, int, int], ...] = (BORDER,)


def colour_of(number: int) -> tuple[int, int, int]:
    """Colour of a class in VOC's palette.

    Bits 0, 3, 6, … of its number are those of red, the highest first; bits 1, 4, 7, … those of
    green; bits 2, 5, 8, … those of blue.
    """
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def read_labels(path: Path) -> LabelMap:
    """Classes of a `labelmap.txt` with lines of `name:r,g,b:parts:actions`, in their order.

    A file that does not exist means the classes of Pascal VOC.

    Raises:
        DataError: a line has another form, a colour is given twice, or there are too many classes.
    """
    if not exists(path):
        every = range(len(NAMES))
        return LabelMap(LabelSchema(names=NAMES, palette=tuple(map(colour_of, every))), (*every,))
    try:
        lines = read_bounded(path, MAX_LIST).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: cannot be read: {err}.") from err
    names: list[str] = []
    colours: list[tuple[int, int, int]] = []
    numbers: list[int] = []
    ignored = [BORDER]
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        rgb = [int(part) for part in (match["rgb"] or "").split(",") if part] if match else []
        if match is None or len(rgb) not in (0, 3) or max(rgb, default=0) > 255:
            raise DataError(
                f"{path}: line {number} is not of the form name:r,g,b::.", hint=f"It is: {line!r}"
            )
        name = match["name"].strip()
        colour = (rgb[0], rgb[1], rgb[2]) if rgb else colour_of(len(numbers))
        if name.lower() in _UNUSED:  # no class, but maps know it by its number and colour
            numbers.append(IGNORED)
            ignored.append(colour)
            continue
        numbers.append(len(names))
        names.append(name)
        colours.append(colour)
    if not 1 <= len(names) < IGNORED or len(set(names)) != len(names):
        raise DataError(f"{path}: needs 1 to {IGNORED - 1} classes, each once; has {len(names)}.")
    if len({*colours, *ignored}) != len(colours) + len(set(ignored)):
        raise DataError(f"{path}: two classes have one colour.")
    labels = LabelSchema(names=tuple(names), palette=tuple(colours))
    return LabelMap(labels, tuple(numbers), tuple(ignored))
