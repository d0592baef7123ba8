"""NYUD-v2 in the copies that circulate: NYUD_MT, ASTMT's and MTAN's.

Which one a folder holds is told from what is in it; `Tree.name` says what was recognised. What is
assumed of each is what the loaders published with it do:

* **NYUD_MT** (Multi-Task-Learning-PyTorch; with pictures for normals and edges also ATRC, InvPT):
  `gt_sets/<split>.txt`, `images/<id>.jpg|png`, `segmentation/<id>.png` (0 unlabelled, 1…40),
  `depth/<id>.npy` (metres), `normals/<id>.npy|png`, `edge/<id>.npy|png`.
* **ASTMT**: the same folders with `segmentation/<id>.mat` (variable `segmentation`, 0…40),
  `depth/<id>.mat` (variable `depth`), `normals/<id>.jpg`. ASTMT itself counts 0 as a 41st class,
  later work ignores it, and so does this loader.
* **MTAN** (also LibMTL): `<split>/{image,label,depth,normal}/<i>.npy`, 288×384, 13 classes, -1
  unlabelled. Another benchmark: its figures and those on the other copies do not compare.

The axes of the normals are brought to those of the task: see `orientation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medusa_core.api import TargetInfo
from medusa_core.data.images import image_size, read_npy, read_raw, read_rgb
from medusa_core.errors import DataError, UnknownNameError
from medusa_tasks.datasets import arrays
from medusa_tasks.datasets.matlab import numbers, read_variable
from medusa_tasks.datasets.nyud.labels import CLASSES_13, CLASSES_40
from medusa_tasks.datasets.orientation import turned, voters
from medusa_tasks.datasets.tree import (
    Images,
    Source,
    Tree,
    entries,
    kind_of_files,
    open_root,
    read_ids,
)

HINT = (
    "The data are the release NYUD_MT of ASTMT or Multi-Task-Learning-PyTorch, or NYUv2 of MTAN or "
    "LibMTL; nothing is downloaded. Expected in the folder: gt_sets/{train,val}.txt, images/, "
    "segmentation/, depth/, normals/, edge/; or {train,val}/{image,label,depth,normal}/. "
    "See docs/how-to/published-data.md."
)

Read = Callable[[Path], np.ndarray]

_FOLDERS: Mapping[str, tuple[str, Mapping[str, Read], TargetInfo]] = {
    "semseg": (
        "segmentation",
        {
            ".png": lambda p: arrays.classes(p, read_raw(p), 40, 1, 0),
            ".mat": lambda p: arrays.classes(p, _matlab(p, "segmentation"), 40, 1, 0),
        },
        TargetInfo(labels=CLASSES_40),
    ),
    "depth": (
        "depth",
        {
            ".npy": lambda p: arrays.metres(p, read_npy(p)),
            ".mat": lambda p: arrays.metres(p, _matlab(p, "depth")),
        },
        TargetInfo(unit="m"),
    ),
    "normals": (
        "normals",
        {
            ".npy": lambda p: arrays.unit_vectors(p, read_npy(p)),
            ".png": lambda p: arrays.picture_vectors(p, read_raw(p)),
            ".jpg": lambda p: arrays.picture_vectors(p, read_raw(p)),
        },
        TargetInfo(),
    ),
    "edges": (
        "edge",
        {
            ".npy": lambda p: arrays.zero_or_one(p, read_npy(p)),
            ".png": lambda p: arrays.half_of_255(p, read_raw(p)),
        },
        TargetInfo(),
    ),
}
"""Target → its folder in NYUD_MT and ASTMT, what reads each kind of file, what is known of it."""

_MTAN_FOLDERS: Mapping[str, tuple[str, Read, TargetInfo]] = {
    "semseg": (
        "label",
        lambda p: arrays.classes(p, read_npy(p), 13, 0, -1),
        TargetInfo(labels=CLASSES_13),
    ),
    "depth": ("depth", lambda p: arrays.metres(p, read_npy(p)), TargetInfo(unit="m")),
    "normals": ("normal", lambda p: arrays.unit_vectors(p, read_npy(p)), TargetInfo()),
}


def open_nyud(location: str | None, split: str) -> Tree:
    """One split of NYUD-v2.

    Targets: `semseg` (40 classes, 13 in MTAN's copy), `depth` in metres, `normals`, `edges` (not in
    MTAN's copy); those whose folder is there.

    Args:
        location: the folder of the data.
        split: `train` or `val`.

    Raises:
        UsageError: no location, or no such split.
        DataError: no such folder, none of the copies, or one without images or ids.
    """
    root = open_root(location, "nyud", HINT)
    names = {path.name for path in entries(root)}
    if names & {"gt_sets", "images"}:
        return _open_folders(root, split)
    if any((root / name / "image").is_dir() for name in names & {"train", "val"}):
        return _open_mtan(root, split)
    raise DataError(f"{root}: none of the copies of NYUD-v2 that are known.", hint=HINT)


def _open_folders(root: Path, split: str) -> Tree:
    ids = read_ids(root / "gt_sets", split, HINT)
    image_kind = kind_of_files(root / "images", (".jpg", ".png"))
    if image_kind is None:
        raise DataError(f"{root / 'images'}: no images.", hint=HINT)
    sources, kinds = {}, {}
    for target, (folder, readers, info) in _FOLDERS.items():
        kind = kinds[target] = kind_of_files(root / folder, readers)
        if kind is not None:
            told_by = root / folder if target == "normals" else None
            sources[target] = _source(root / folder, kind, readers[kind], info, told_by)
    copy = "ASTMT" if ".mat" in kinds.values() else "NYUD_MT"
    images = Images(
        lambda name: root / "images" / f"{name}{image_kind}", read=read_rgb, size=image_size
    )
    return Tree(f"nyud ({copy})", split, ids, images, sources)


def _open_mtan(root: Path, split: str) -> Tree:
    known = [name for name in ("train", "val") if (root / name / "image").is_dir()]
    if split not in known:
        raise UnknownNameError("split", split, known)
    folder = root / split
    sources = {}
    for target, (name, read, info) in _MTAN_FOLDERS.items():
        if kind_of_files(folder / name, (".npy",)):
            told_by = root / known[0] / name if target == "normals" else None
            sources[target] = _source(folder / name, ".npy", read, info, told_by)
    images = Images(
        lambda name: folder / "image" / f"{name}.npy", read=_read_photograph, size=_photograph_size
    )
    return Tree("nyud (MTAN, 13 classes)", split, _numbers(folder / "image"), images, sources)


def _source(folder: Path, kind: str, read: Read, info: TargetInfo, told_by: Path | None) -> Source:
    """A target, a file a sample; files in `told_by`, the same for all splits, tell its axes."""
    voting = voters(told_by, kind) if told_by else []
    read = turned(voting, read) if told_by else read
    return Source(_named(folder, kind), _checked(read), info, voting)


def _named(folder: Path, kind: str) -> Callable[[str], Sequence[Path]]:
    return lambda name: (folder / f"{name}{kind}",)


def _checked(read: Read) -> Callable[[Sequence[Path], tuple[int, int]], np.ndarray]:
    def read_one(files: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
        target = read(files[0])
        arrays.require_size(files[0], target, size)
        return target

    return read_one


def _matlab(path: Path, name: str) -> np.ndarray:
    return numbers(path, name, read_variable(path, name))


def _numbers(folder: Path) -> tuple[str, ...]:
    """The ids of MTAN's copy: its files are numbered."""
    stems = [path.stem for path in entries(folder) if path.suffix == ".npy"]
    other = next((stem for stem in stems if not (stem.isascii() and stem.isdigit())), None)
    if other is not None:
        raise DataError(f"{folder / other}.npy: files are named by numbers here.")
    if not stems:
        raise DataError(f"{folder}: no images.", hint=HINT)
    return tuple(sorted(stems, key=lambda stem: (int(stem), stem)))


def _read_photograph(path: Path) -> np.ndarray:
    """`(H, W, 3) uint8` from floating-point numbers from 0 to 1."""
    raw = arrays.three_channels(path, read_npy(path))
    if raw.dtype.kind != "f" or not ((raw > -0.01) & (raw < 1.01)).all():
        raise DataError(f"{path}: {raw.dtype}, expected a picture of numbers from 0 to 1.")
    return np.rint(raw.clip(0, 1) * 255).astype(np.uint8)


def _photograph_size(path: Path) -> tuple[int, int]:
    height, width, _ = arrays.three_channels(path, read_npy(path)).shape
    return height, width
