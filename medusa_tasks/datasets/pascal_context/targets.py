"""How the targets of PASCAL_MT are made from its files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from medusa_core.data.images import read_raw
from medusa_core.errors import DataError
from medusa_core.metrics.thinning import thin
from medusa_tasks.datasets import arrays, matlab
from medusa_tasks.datasets.pascal_context.labels import PART_NUMBERS

Size = tuple[int, int]


def semseg(files: Sequence[Path], size: Size) -> np.ndarray:
    """21 classes of VOC, 255 where void."""
    path = files[0]
    target = arrays.classes(path, read_raw(path), 21, 0, arrays.IGNORED)
    arrays.require_size(path, target, size)
    return target


def saliency(files: Sequence[Path], size: Size) -> np.ndarray:
    """1 where the distilled map is above one half."""
    path = files[0]
    target = arrays.half_of_255(path, read_raw(path))
    arrays.require_size(path, target, size)
    return target


def edges(files: Sequence[Path], size: Size) -> np.ndarray:
    """Boundaries of the 459-class label map: where its Laplacian is not zero, thinned."""
    return thin(laplacian(label_map(files[0], size)) != 0).astype(np.int64)


def laplacian(values: np.ndarray) -> np.ndarray:
    """Sum of the four neighbours less four times the pixel, mirrored at the border."""
    padded = np.pad(values.astype(np.int64), 1, mode="reflect")
    return (
        padded[:-2, 1:-1]
        + padded[2:, 1:-1]
        + padded[1:-1, :-2]
        + padded[1:-1, 2:]
        - 4 * padded[1:-1, 1:-1]
    )


def label_map(path: Path, size: Size) -> np.ndarray:
    """`LabelMap`: `(H, W) int64`, one of the 459 classes of PASCAL-Context a pixel."""
    raw = matlab.numbers(path, "LabelMap", matlab.read_variable(path, "LabelMap"))
    arrays.require_size(path, raw, size)
    if not ((raw >= 0) & (raw < 2**16) & (raw == np.trunc(raw))).all():
        raise DataError(f"{path}: LabelMap holds values that are no class numbers.")
    return raw.astype(np.int64)


def human_parts(files: Sequence[Path], size: Size) -> np.ndarray:
    """Six parts of persons, 0 elsewhere; all ignored where no part of a person is annotated."""
    path = files[0]
    target = np.zeros(size, np.int64)
    for person in _persons(path):
        for part in matlab.structs(path, "parts", person["parts"], ("part_name", "mask")):
            name = matlab.text(path, "part_name", part["part_name"])
            if name not in PART_NUMBERS:
                raise DataError(
                    f"{path}: {name!r} is no part of a person in PASCAL-Parts.",
                    hint=f"Known: {', '.join(sorted(PART_NUMBERS))}.",
                )
            mask = matlab.numbers(path, f"mask of {name}", part["mask"])
            arrays.require_size(path, mask, size)
            target[mask != 0] = PART_NUMBERS[name]
    return target if target.any() else np.full(size, arrays.IGNORED, np.int64)


def _persons(path: Path) -> list[matlab.Struct]:
    """Objects of the class person in `anno`, the struct of PASCAL-Parts."""
    annotations = matlab.structs(path, "anno", matlab.read_variable(path, "anno"), ("objects",))
    if len(annotations) != 1:
        raise DataError(f"{path}: anno has {len(annotations)} elements, expected 1.")
    objects = matlab.structs(path, "objects", annotations[0]["objects"], ("class", "parts"))
    return [one for one in objects if matlab.text(path, "class", one["class"]) == "person"]


def encoded_normals(path: Path) -> np.ndarray:
    """Distilled normals, everywhere, with the axes as stored."""
    return arrays.picture_vectors(path, read_raw(path))


def trusted(normals: np.ndarray, labels: np.ndarray, shared: Collection[int]) -> np.ndarray:
    """Normals where the class is one that NYUD has too, zero elsewhere."""
    return np.where(np.isin(labels, list(shared))[..., None], normals, np.float32(0))
