"""The `folder` data set: anyone's images and labels, described by one `dataset.json`.

Layout: `DIR/dataset.json`, image and target files named by path patterns with `{id}`, and one
text file of ids (one a line) for each split. `docs/reference/folder.md` describes it in full.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np

from medusa_core.api import Sample
from medusa_core.data.files import exists, read_bounded
from medusa_core.data.folder_decoding import decode
from medusa_core.data.folder_description import FILE, TABLES, info, read_description
from medusa_core.data.images import image_size, read_rgb
from medusa_core.data.tables import read_values
from medusa_core.errors import DataError, MedusaWarning, UnknownNameError, UsageError

MAX_IDS = 100_000_000
"""Bytes of the ids of a split."""


class FolderDataset:
    """One split of a `folder` data set; see `medusa_core.api.Dataset` for the contract.

    Decoded targets: `linear` `(H, W)` or `(H, W, C) float32`, NaN where invalid; `index`
    `(H, W) int64`; `binary` `(H, W) int64` of 0, 1 and 255 (ignored); `vector` `(H, W, C) float32`
    of unit length, NaN where invalid; `numbers` `(C,) float32`, `()` of one column; `class`
    `() int64`.
    """

    def __init__(self, location: str | None, split: str) -> None:
        if not location:
            raise UsageError("The data set 'folder' needs a path.", hint="--data folder:DIR")
        self.root = Path(location)
        self.split = split
        self.description = read_description(self.root)
        self.name = self.description.name
        if split not in self.description.splits:
            raise UnknownNameError(
                "split",
                split,
                self.description.splits,
                hint=f"Splits are listed in {self.root / FILE}.",
            )
        self._resolved_root = self.root.resolve()
        self.ids = self._read_ids()
        self.targets = {
            name: info(self.root / FILE, t) for name, t in self.description.targets.items()
        }
        self._values = {
            name: read_values(self._path(t.table, ""), t)
            for name, t in self.description.targets.items()
            if isinstance(t, TABLES)
        }
        self._tell_missing()
        self._tell_unusable()
        of_images, self.digest = self._digests()
        if type(self) is FolderDataset:  # one derived from it may make other images of the files
            self.image_digest = of_images

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image, from its header."""
        return image_size(self._path(self.description.image, self.ids[index]))

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """Read one image and the asked targets it has."""
        name = self.ids[index]
        image = read_rgb(self._path(self.description.image, name))
        found = {}
        for target, description in self.description.targets.items():
            if targets is not None and target not in targets:
                continue
            if isinstance(description, TABLES):
                value = self._values[target].get(name)
                if isinstance(value, DataError):
                    raise DataError(value.message, value.hint)
                if value is not None:
                    found[target] = value
                continue
            path = self._path(description.path, name)
            if exists(path):
                found[target] = decode(path, description, image.shape[:2])
        return Sample(id=name, image=image, targets=found)

    def _tell_missing(self) -> None:
        """Warn of targets that no image of the split has a file of, as with a misspelt path."""
        for name, target in self.description.targets.items():
            if isinstance(target, TABLES):
                continue
            if not any(self._is_there(target.path, one) for one in self.ids):
                self._warn(
                    f"none of the {len(self.ids)} files {target.path} of split {self.split!r} "
                    f"exists, so no image has {name!r}."
                )

    def _warn(self, what: str) -> None:
        warnings.warn(f"{self.root}: {what}", MedusaWarning, stacklevel=4)

    def _tell_unusable(self) -> None:
        """Warn of fields that are no values; those of no image being any is an error."""
        for target, values in self._values.items():
            known = [values[name] for name in self.ids if name in values]
            if values and not known:
                self._warn(
                    f"none of the {len(values)} ids with {target!r}, such as "
                    f"{next(iter(values))!r}, is one of split {self.split!r}, such as "
                    f"{self.ids[0]!r}."
                )
            errors = [value for value in known if isinstance(value, DataError)]
            if errors and len(errors) == len(known):
                raise errors[0]
            if errors:
                self._warn(
                    f"{len(errors)} of {len(known)} values of {target!r} in split {self.split!r} "
                    f"cannot be used. The first: {errors[0].message}"
                )

    def _is_there(self, pattern: str, name: str) -> bool:
        try:
            return exists(self._path(pattern, name))
        except DataError:  # told when it is read
            return True

    def _path(self, pattern: str, name: str) -> Path:
        path = self.root / pattern.replace("{id}", name)
        try:
            inside = path.resolve().is_relative_to(self._resolved_root)
        except (OSError, RuntimeError, ValueError) as err:  # a loop of links, a zero byte
            raise DataError(f"{str(path)!r} is not a path that can be followed: {err}.") from err
        if not inside:
            raise DataError(
                f"{path}: leaves the data-set folder {self.root}.",
                hint="Links out of it are not followed: put the files, or mount them, there.",
            )
        return path

    def _read_ids(self) -> tuple[str, ...]:
        path = self._path(self.description.splits[self.split], "")
        try:
            lines = read_bounded(path, MAX_IDS).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as err:
            raise DataError(
                f"{path}: the ids of split {self.split!r} cannot be read: {err}."
            ) from err
        ids = tuple(line.strip() for line in lines if line.strip())
        if not ids:
            raise DataError(f"{path}: split {self.split!r} has no images.", hint="One id a line.")
        if len(set(ids)) != len(ids):
            double = Counter(ids).most_common(1)[0][0]
            raise DataError(f"{path}: the id {double!r} is listed twice.")
        ending = Path(self.description.image).suffix
        if ending and ids[0].endswith(ending):
            image = self._path(self.description.image, ids[0])
            if not exists(image):
                raise DataError(
                    f"{image}: no such file.",
                    hint=f"Ids of {path} are names without {ending}, or image has none.",
                )
        return ids

    def _digests(self) -> tuple[str, str]:
        """Hashes of ids, and size and time of files: of the images, and of all, as described."""
        images = hashlib.sha256(self.description.image.encode())
        state = hashlib.sha256(self.description.model_dump_json().encode())
        patterns = [self.description.image]
        for target in self.description.targets.values():
            if not isinstance(target, TABLES):
                patterns.append(target.path)
        for values in self._values.values():
            for name in self.ids:
                value = values.get(name)
                if isinstance(value, np.ndarray):
                    known = value.tobytes()
                else:
                    known = b"none" if value is None else value.message.encode()
                state.update(f"{name}:{len(known)}:".encode() + known)
        for name in self.ids:
            entries = [f"{name}:{self._stamp(pattern, name)}\n".encode() for pattern in patterns]
            images.update(entries[0])
            state.update(b"".join(entries))
        return images.hexdigest()[:32], state.hexdigest()[:32]

    def _stamp(self, pattern: str, name: str) -> str:
        """Name, size and time of a file."""
        try:
            path = self._path(pattern, name)
            stat = path.stat()
        except (OSError, DataError):  # reported, or skipped, as it is loaded
            return f"{Path(pattern.replace('{id}', name)).name}:missing"
        return f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}"
