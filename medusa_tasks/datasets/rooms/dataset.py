"""The data set class of `rooms`, found by the host through `medusa_register_datasets`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from medusa_core.api import LabelSchema, Sample, TargetInfo
from medusa_core.errors import UnknownNameError, UsageError
from medusa_tasks.datasets.rooms.accents import choose_accents
from medusa_tasks.datasets.rooms.layout import sample_scene
from medusa_tasks.datasets.rooms.render import cast
from medusa_tasks.datasets.rooms.scene import CLASSES, PARTS, Scene
from medusa_tasks.datasets.rooms.shading import photograph
from medusa_tasks.datasets.rooms.stream import Stream, derive_seed
from medusa_tasks.datasets.rooms.targets import TARGETS

VERSION = 1
SPLITS = {"train": 2400, "val": 300}
SMALLEST, LARGEST = 16, 2048

SEMSEG = LabelSchema(
    names=CLASSES,
    palette=(
        (196, 190, 178),
        (140, 110, 84),
        (236, 236, 228),
        (156, 82, 44),
        (120, 196, 240),
        (214, 118, 186),
        (128, 62, 120),
        (232, 170, 60),
        (92, 124, 72),
        (240, 222, 80),
        (64, 88, 168),
        (226, 62, 62),
        (112, 128, 144),
        (255, 246, 176),
        (40, 190, 150),
    ),
)
HUMAN_PARTS = LabelSchema(
    names=PARTS,
    palette=(
        (0, 0, 0),
        (230, 72, 64),
        (250, 180, 50),
        (70, 170, 90),
        (150, 220, 110),
        (54, 96, 200),
        (110, 190, 240),
    ),
)


class Rooms:
    """Indoor scenes rendered when they are asked for; the same on every machine.

    Args:
        location: size of the images as `HEIGHTxWIDTH` (default 96x128). The scenes are the same at
            every size; the vertical field of view is kept.
        split: `train` or `val`.
    """

    name = "rooms"

    def __init__(self, location: str | None, split: str) -> None:
        if split not in SPLITS:
            raise UnknownNameError(kind="split", name=split, known=list(SPLITS))
        self.split = split
        self._height, self._width = _parse_size(location)
        self.ids: Sequence[str] = [f"{split}-{i:06d}" for i in range(SPLITS[split])]
        self.targets: Mapping[str, TargetInfo] = {
            "depth": TargetInfo(unit="m"),
            "normals": TargetInfo(),
            "semseg": TargetInfo(labels=SEMSEG),
            "edges": TargetInfo(),
            "saliency": TargetInfo(),
            "human_parts": TargetInfo(labels=HUMAN_PARTS),
        }
        self.digest = f"rooms-{VERSION}:{split}:{self._height}x{self._width}"

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W), the same for all samples."""
        return self._height, self._width

    def scene(self, index: int) -> Scene:
        """The scene of a sample before it is rendered."""
        name = self.ids[index]
        scene = sample_scene(Stream(derive_seed("rooms", VERSION, name)))
        choose_accents(scene, Stream(derive_seed("rooms", VERSION, name, "accents")))
        return scene

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """Render one sample with the asked targets (None: all)."""
        wanted = self.targets if targets is None else [t for t in self.targets if t in targets]
        scene = self.scene(index)
        view = cast(scene, self._height, self._width)
        return Sample(
            id=self.ids[index],
            image=photograph(scene, view),
            targets={name: TARGETS[name](scene, view) for name in wanted},
        )


def _parse_size(location: str | None) -> tuple[int, int]:
    if location is None:
        return 96, 128
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", location, re.ASCII)
    if match:
        height, width = int(match[1]), int(match[2])
        if min(height, width) >= SMALLEST and max(height, width) <= LARGEST:
            return height, width
    raise UsageError(
        f"{location!r} is not a size for the data set 'rooms'.",
        hint=f"Write HEIGHTxWIDTH, each {SMALLEST} to {LARGEST}: --data rooms:240x320",
    )
