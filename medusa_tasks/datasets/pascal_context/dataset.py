"""PASCAL-Context for several tasks, in the layout of the release PASCAL_MT (ASTMT).

`ImageSets/Context/<split>.txt`, `JPEGImages/<id>.jpg`, and of these what is there:

* `semseg`: `semseg/VOC12/<id>.png`, else `semseg/pascal-context/<id>.png`; 0…20, 255 void.
* `human_parts`: `human_parts/<id>.mat`, the struct `anno` of PASCAL-Parts.
* `edges`: `pascal-context/trainval/<id>.mat`, the label map `LabelMap` of 459 classes.
* `normals`: `normals_distill/<id>.png`, 2x / 255 - 1, predicted by a network trained on NYUD. They
  count only on classes that NYUD has as well, which takes the image's `LabelMap`, too.
* `saliency`: `sal_distill/<id>.png`, x / 255 > 0.5, predicted as well.

The axes of the normals are brought to those of the task: see `orientation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medusa_core.api import TargetInfo
from medusa_core.data.files import exists
from medusa_core.data.images import image_size, read_rgb
from medusa_core.errors import DataError
from medusa_tasks.datasets.arrays import require_size
from medusa_tasks.datasets.orientation import turned, voters
from medusa_tasks.datasets.pascal_context import targets
from medusa_tasks.datasets.pascal_context.labels import OBJECTS, PARTS
from medusa_tasks.datasets.pascal_context.shared_classes import CLASS_LISTS, shared_classes
from medusa_tasks.datasets.tree import (
    Images,
    Source,
    Tree,
    kind_of_files,
    open_root,
    read_ids,
)

HINT = (
    "The data are the release PASCAL_MT of ASTMT, which Multi-Task-Learning-PyTorch uses; nothing "
    "is downloaded. Expected in the folder: ImageSets/Context/{train,val}.txt, JPEGImages/, "
    "semseg/VOC12/, semseg/pascal-context/, human_parts/, pascal-context/trainval/, "
    "normals_distill/, sal_distill/. See docs/how-to/published-data.md."
)


def open_pascal_context(location: str | None, split: str) -> Tree:
    """One split of PASCAL-Context.

    Targets: `semseg` (21 classes of VOC), `human_parts` (6 parts and background), `edges`,
    `normals`, `saliency`; those whose folder is there.

    Args:
        location: the folder of the data.
        split: `train` or `val`.

    Raises:
        UsageError: no location, or no such split.
        DataError: no such folder, or one without images or ids.
    """
    root = open_root(location, "pascal_context", HINT)
    ids = read_ids(root / "ImageSets" / "Context", split, HINT)
    if kind_of_files(root / "JPEGImages", (".jpg",)) is None:
        raise DataError(f"{root / 'JPEGImages'}: no images.", hint=HINT)
    images = Images(
        lambda name: root / "JPEGImages" / f"{name}.jpg", read=read_rgb, size=image_size
    )
    return Tree("pascal_context", split, ids, images, _sources(root))


def _sources(root: Path) -> dict[str, Source]:
    """The targets whose folder has files."""
    voc, context = root / "semseg" / "VOC12", root / "semseg" / "pascal-context"
    parts, labels = root / "human_parts", root / "pascal-context" / "trainval"
    normals, saliency = root / "normals_distill", root / "sal_distill"

    def semseg_file(name: str) -> Sequence[Path]:
        file = voc / f"{name}.png"
        return (file if exists(file) else context / f"{name}.png",)

    has_labels = kind_of_files(labels, (".mat",))
    found = {}
    if kind_of_files(voc, (".png",)) or kind_of_files(context, (".png",)):
        found["semseg"] = Source(semseg_file, targets.semseg, TargetInfo(labels=OBJECTS))
    if kind_of_files(parts, (".mat",)):
        info = TargetInfo(labels=PARTS)
        found["human_parts"] = Source(_in(parts, ".mat"), targets.human_parts, info)
    if has_labels:
        found["edges"] = Source(_in(labels, ".mat"), targets.edges)
    if kind_of_files(normals, (".png",)) and has_labels:
        voting = voters(normals, ".png")
        found["normals"] = Source(
            lambda name: (normals / f"{name}.png", labels / f"{name}.mat"),
            _read_normals(root, voting),
            shared=[*voting, *(root / name for name in CLASS_LISTS)],
        )
    if kind_of_files(saliency, (".png",)):
        found["saliency"] = Source(_in(saliency, ".png"), targets.saliency)
    return found


def _in(folder: Path, suffix: str) -> Callable[[str], Sequence[Path]]:
    return lambda name: (folder / f"{name}{suffix}",)


def _read_normals(
    root: Path, voting: Sequence[Path]
) -> Callable[[Sequence[Path], tuple[int, int]], np.ndarray]:
    shared = shared_classes(root)
    read = turned(voting, targets.encoded_normals)

    def read_normals(files: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
        normals = read(files[0])
        require_size(files[0], normals, size)
        return targets.trusted(normals, targets.label_map(files[1], size), shared)

    return read_normals
