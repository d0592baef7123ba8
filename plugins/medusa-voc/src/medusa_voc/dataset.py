"""The data set `voc`: images and class maps in the folders of Pascal VOC."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from medusa_core.api import Sample, TargetInfo
from medusa_core.data.files import exists, read_bounded
from medusa_core.data.images import image_size, read_raw, read_rgb
from medusa_core.errors import DataError, UnknownNameError, UsageError
from medusa_voc.labels import IGNORED, MAX_LIST, LabelMap, read_labels

IMAGES, MAPS, SPLITS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".JPG", ".bmp")
TARGET = "semseg"


class Voc:
    """One split; see `medusa_core.api.Dataset`.

    The folder holds JPEGImages, SegmentationClass and ImageSets/Segmentation, or a VOCdevkit with
    one such folder. Class maps are palette images, grey ones, or colours of the labelmap.
    """

    def __init__(self, location: str | None, split: str) -> None:
        if not location:
            raise UsageError("The data set 'voc' needs a path.", hint="--data voc:VOC2012")
        self.root = _find_root(Path(location))
        self.name, self.split = "voc", split
        self._known = read_labels(self.root / "labelmap.txt")
        self.labels = self._known.labels
        self.ids = self._read_ids()
        self.targets: Mapping[str, TargetInfo] = {TARGET: TargetInfo(labels=self.labels)}
        self.digest = self._digest()

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image, from its header."""
        return image_size(self._image(self.ids[index]))

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """Read an image and, if it is asked for and there is one, its class map."""
        name = self.ids[index]
        image = read_rgb(self._image(name))
        path = self.root / MAPS / f"{name}.png"
        found = {}
        if (targets is None or TARGET in targets) and exists(path):
            found[TARGET] = _decode(path, self._known)
            if found[TARGET].shape != image.shape[:2]:
                raise DataError(f"{path}: {found[TARGET].shape} but its image is {image.shape}.")
        return Sample(name, image, found)

    def _image(self, name: str) -> Path:
        for extension in EXTENSIONS:
            path = self.root / IMAGES / f"{name}{extension}"
            if exists(path):
                return path
        raise DataError(f"{self.root / IMAGES / name}: there is no image of that name.")

    def _read_ids(self) -> tuple[str, ...]:
        known = sorted(path.stem for path in (self.root / SPLITS).glob("*.txt"))
        if self.split not in known:
            raise UnknownNameError(
                "split", self.split, known, hint=f"Splits are files in {self.root / SPLITS}."
            )
        path = self.root / SPLITS / f"{self.split}.txt"
        try:
            lines = read_bounded(path, MAX_LIST).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as err:
            raise DataError(f"{path}: cannot be read: {err}.") from err
        # Files of single classes have a second column, which says whether an image shows one.
        ids = tuple(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
        for name in ids:
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise DataError(f"{path}: {name!r} leaves the folder of the data set.")
        if not ids:
            raise DataError(f"{path}: split {self.split!r} has no images.")
        return ids

    def _digest(self) -> str:
        """Hash of classes, ids, and size and time of every file."""
        state = hashlib.sha256(f"{self.labels.model_dump_json()}{self._known}".encode())
        for name in self.ids:
            for path in (self._image(name), self.root / MAPS / f"{name}.png"):
                stat = path.stat() if exists(path) else None
                entry = f"{stat.st_size}:{stat.st_mtime_ns}" if stat else "missing"
                state.update(f"{name}:{entry}\n".encode())
        return state.hexdigest()[:32]


def _find_root(location: Path) -> Path:
    """The folder itself, or the only year in a VOCdevkit.

    Raises:
        DataError: it is neither.
    """
    if (location / SPLITS).is_dir():
        return location
    years = sorted(path.parent.parent for path in location.glob(f"*/{SPLITS}"))
    if len(years) == 1:
        return years[0]
    if years:
        raise DataError(
            f"{location}: holds {len(years)} data sets.", hint=f"Name one, such as {years[-1]}"
        )
    raise DataError(f"{location}: there is no {SPLITS}.", hint="The layout is that of Pascal VOC.")


def _decode(path: Path, known: LabelMap) -> np.ndarray:
    """`(H, W) int64` classes of a file of numbers or colours.

    Raises:
        DataError: a number or colour stands for no class.
    """
    raw = read_raw(path)
    labels = known.labels
    if raw.ndim == 2:
        strange = (raw != IGNORED) & ((raw < 0) | (raw >= len(known.numbers)))
        wrong = np.unique(raw[strange])
        number = np.where(strange | (raw == IGNORED), 0, raw)
        classes = np.where(raw == IGNORED, IGNORED, np.array(known.numbers, np.int64)[number])
    else:
        packed = raw[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        classes = np.full(packed.shape, -1)
        for colour in known.ignored:
            classes[packed == _pack(colour)] = IGNORED
        for number, colour in enumerate(labels.palette or ()):
            classes[packed == _pack(colour)] = number
        wrong = np.unique(packed[classes == -1])
    if len(wrong):
        shown = ", ".join(str(n) if raw.ndim == 2 else f"#{n:06x}" for n in wrong[:5])
        raise DataError(
            f"{path}: {shown} stands for none of {len(labels.names)} classes.",
            hint=f"Classes and colours of an export stand in {path.parent.parent}/labelmap.txt.",
        )
    return classes


def _pack(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
