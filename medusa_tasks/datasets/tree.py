"""Data sets that lie on disk as trees of files in a published layout."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medusa_core.api import Sample, TargetInfo
from medusa_core.data.files import exists, read_bounded
from medusa_core.errors import DataError, UnknownNameError, UsageError

_ID = re.compile(r"\w[\w.-]*")
_MAX_LIST = 4_000_000


@dataclass(frozen=True)
class Images:
    """Where the images lie and what reads them.

    file: id → path. read: path → `(H, W, 3) uint8`. size: path → (H, W), without decoding.
    """

    file: Callable[[str], Path]
    read: Callable[[Path], np.ndarray]
    size: Callable[[Path], tuple[int, int]]


@dataclass(frozen=True)
class Source:
    """Where one target lies and what reads it.

    files: id → the files it is made from. A sample has the target where all of them exist.
    read: these files and the image's (H, W) → the target, of that size. It raises `DataError`.
    shared: files that decide the target of all samples, if they exist.
    """

    files: Callable[[str], Sequence[Path]]
    read: Callable[[Sequence[Path], tuple[int, int]], np.ndarray]
    info: TargetInfo = field(default_factory=TargetInfo)
    shared: Sequence[Path] = ()


class Tree:
    """One split of such a data set; see `medusa_core.api.Dataset` for the contract.

    Args:
        name: what reports call it: the data set and which copy of it was recognised.
        split: which part of it this is.
        ids: the samples.
        images: of all samples.
        sources: target → where it lies.
    """

    def __init__(
        self,
        name: str,
        split: str,
        ids: Sequence[str],
        images: Images,
        sources: Mapping[str, Source],
    ) -> None:
        self.name = name
        self.split = split
        self.ids = ids
        self.targets: Mapping[str, TargetInfo] = {t: s.info for t, s in sources.items()}
        self._images = images
        self._sources = sources
        of_images, self.digest = self._digests()
        if type(self) is Tree:  # one derived from it may make other images of the files
            self.image_digest = of_images

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image, from its header."""
        return self._images.size(self._images.file(self.ids[index]))

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """Read one image and the asked targets it has."""
        name = self.ids[index]
        image = self._images.read(self._images.file(name))
        size = (image.shape[0], image.shape[1])
        found = {}
        for target, source in self._sources.items():
            if targets is not None and target not in targets:
                continue
            files = source.files(name)
            if all(map(exists, files)):
                found[target] = source.read(files, size)
        return Sample(id=name, image=image, targets=found)

    def _digests(self) -> tuple[str, str]:
        """Hashes of names, sizes and times: of the images, and of all files."""
        images = hashlib.sha256(f"{self.name}\n{self.split}\n".encode())
        state = hashlib.sha256(f"{self.name}\n{self.split}\n{sorted(self._sources)}\n".encode())
        for source in self._sources.values():
            state.update(b"".join(map(_stamp, source.shared)))
        for name in self.ids:
            image = f"{name}\n".encode() + _stamp(self._images.file(name))
            images.update(image)
            state.update(image)
            for source in self._sources.values():
                state.update(b"".join(map(_stamp, source.files(name))))
        return images.hexdigest()[:32], state.hexdigest()[:32]


def open_root(location: str | None, name: str, hint: str) -> Path:
    """The folder of a data set.

    Raises:
        UsageError: no location.
        DataError: it is not a folder. `hint` says where the data come from and how they lie.
    """
    if not location:
        raise UsageError(f"The data set {name!r} needs a path.", hint=f"--data {name}:DIR")
    root = Path(location)
    try:
        if root.is_dir():
            return root
    except (OSError, ValueError) as err:
        raise DataError(f"{location!r}: cannot be opened: {err}.") from err
    raise DataError(f"{location}: no such folder.", hint=hint)


def read_ids(folder: Path, split: str, hint: str) -> tuple[str, ...]:
    """The ids in `<folder>/<split>.txt`, one a line; empty lines do not count.

    Raises:
        UnknownNameError: there is no such split.
        DataError: the list is missing, empty, not text, names a sample twice, or holds a line that
            is not the plain name of a file without its suffix.
    """
    known = {"train", "val", *(path.stem for path in entries(folder) if path.suffix == ".txt")}
    if split not in known:
        raise UnknownNameError("split", split, known)
    path = folder / f"{split}.txt"
    try:
        lines = read_bounded(path, _MAX_LIST).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint=hint) from None
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: the ids cannot be read: {err}.") from err
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, name in numbered:
        if not _ID.fullmatch(name) or ".." in name:
            raise DataError(
                f"{path}: line {number}: {name[:80]!r} is not an id.",
                hint="One id a line: the name of the image file, without folder and suffix.",
            )
    return _distinct(path, [name for _, name in numbered])


def _distinct(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    if not ids:
        raise DataError(f"{path}: lists no images.", hint="One id a line.")
    if len(set(ids)) != len(ids):
        double = Counter(ids).most_common(1)[0][0]
        raise DataError(f"{path}: the id {double!r} is listed twice.")
    return tuple(ids)


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name; nothing where there is no such folder.

    Raises:
        DataError: it may not be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as err:
        raise DataError(f"{folder}: cannot be listed: {err.strerror}.") from err


def kind_of_files(folder: Path, known: Collection[str]) -> str | None:
    """Which of the known suffixes the files of a folder have; None where it has no files.

    Raises:
        DataError: files of several known kinds, or only of others.
    """
    suffixes = {path.suffix for path in entries(folder)}
    found = sorted(suffixes & set(known))
    if len(found) > 1:
        raise DataError(
            f"{folder}: holds {' and '.join(found)} files: which count is not known.",
            hint="Keep one kind and move the others elsewhere.",
        )
    if suffixes and not found:
        raise DataError(f"{folder}: holds no {' or '.join(sorted(known))} files.")
    return found[0] if found else None


def _stamp(path: Path) -> bytes:
    try:
        stat = path.stat()
        return f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}\n".encode()
    except OSError:
        return f"{path.name}:missing\n".encode()
