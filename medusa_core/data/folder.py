"""The `folder` data set: anyone's images and labels, described by one `dataset.json`.

Layout: `DIR/dataset.json`, image and target files named by path patterns with `{id}`, and one
text file of ids (one a line) for each split. `docs/reference/folder.md` describes it in full.
"""

from __future__ import annotations

import hashlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError
from pydantic_core import from_json

from medusa_core.api import LabelSchema, Sample, TargetInfo
from medusa_core.api.specs import RGB, Name
from medusa_core.data.images import image_size, read_raw, read_rgb
from medusa_core.data.tables import ClassTarget, NumbersTarget, Part, read_values
from medusa_core.errors import DataError, UnknownNameError, UsageError

FILE = "dataset.json"
MAX_DESCRIPTION = 4_000_000
MAX_IDS = 100_000_000
"""Bytes of `dataset.json`, and of the ids of a split."""
MAX_TARGETS = 100
MAX_CHANNELS = 64

PathPattern = Annotated[str, Field(pattern=r"\{id\}")]
"""Path of a sample's file below the folder, `{id}` standing for its id."""


class LinearTarget(Part):
    """`value · scale + offset` in `unit`; `invalid` is the raw value without a measurement."""

    encoding: Literal["linear"]
    path: PathPattern
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None
    invalid: float | Literal["nan"] | None = None


class IndexTarget(Part):
    """A class number; `labels` are the class names in order."""

    encoding: Literal["index"]
    path: PathPattern
    ignore_index: int = 255
    labels: tuple[str, ...]
    palette: tuple[RGB, ...] | None = None
    swap_pairs: tuple[tuple[int, int], ...] = ()

    def schema_(self) -> LabelSchema:
        """The classes as a head stores them."""
        return LabelSchema(
            names=self.labels,
            ignore_index=self.ignore_index,
            palette=self.palette,
            swap_pairs=self.swap_pairs,
        )


class BinaryTarget(Part):
    """Positive where value ≥ `threshold`; `ignore` is the raw value that counts neither way."""

    encoding: Literal["binary"]
    path: PathPattern
    threshold: float = 128
    ignore: float | None = None


class VectorTarget(Part):
    """`value · scale + offset` a channel, then normalised; `invalid` is a raw triple."""

    encoding: Literal["vector"]
    path: PathPattern
    scale: float = 1.0
    offset: float = 0.0
    invalid: tuple[float, ...] | None = None
    axes: str | None = None


Target = Annotated[
    LinearTarget | IndexTarget | BinaryTarget | VectorTarget | NumbersTarget | ClassTarget,
    Field(discriminator="encoding"),
]
TABLES = (NumbersTarget, ClassTarget)
"""Targets of whole images: one table for all of them."""


class Description(Part):
    """`dataset.json`."""

    schema_version: Literal[1]
    name: str
    description: str = ""
    licence: str = ""
    image: PathPattern
    splits: dict[str, str]
    targets: dict[Name, Target] = Field(max_length=MAX_TARGETS)


class FolderDataset:
    """One split of a `folder` data set; see `medusa_core.api.Dataset` for the contract.

    Decoded targets: `linear` `(H, W) float32`, 0 where invalid; `index` `(H, W) int64`;
    `binary` `(H, W) int64` of 0, 1 and 255 (ignored); `vector` `(H, W, C) float32` of unit length,
    zero where invalid; `numbers` `(C,) float32`, `()` of one column; `class` `() int64`.
    """

    def __init__(self, location: str | None, split: str) -> None:
        if not location:
            raise UsageError("The data set 'folder' needs a path.", hint="--data folder:DIR")
        self.root = Path(location)
        self.split = split
        self.description = _read_description(self.root)
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
            name: _info(self.root / FILE, t) for name, t in self.description.targets.items()
        }
        self._values = {
            name: read_values(self._path(t.table, ""), t)
            for name, t in self.description.targets.items()
            if isinstance(t, TABLES)
        }
        self.digest = self._digest()

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
                if name in self._values[target]:
                    found[target] = self._values[target][name]
                continue
            path = self._path(description.path, name)
            if path.exists():
                found[target] = _decode(path, description, image.shape[:2])
        return Sample(id=name, image=image, targets=found)

    def _path(self, pattern: str, name: str) -> Path:
        path = self.root / pattern.replace("{id}", name)
        try:
            inside = path.resolve().is_relative_to(self._resolved_root)
        except (OSError, RuntimeError, ValueError) as err:  # a loop of links, a zero byte
            raise DataError(f"{str(path)!r} is not a path that can be followed: {err}.") from err
        if not inside:
            raise DataError(f"{path}: leaves the data-set folder {self.root}.")
        return path

    def _read_ids(self) -> tuple[str, ...]:
        path = self._path(self.description.splits[self.split], "")
        try:
            lines = _read_text(path, MAX_IDS).decode("utf-8-sig").splitlines()
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
        return ids

    def _digest(self) -> str:
        """Hash of where it is, the description, the ids, and size and time of every file.

        Copies whose files were given the same times (archives, container images) are told apart by
        the place.
        """
        state = hashlib.sha256(f"{self._resolved_root}\n".encode("utf-8", "surrogateescape"))
        state.update(self.description.model_dump_json().encode())
        patterns = [self.description.image]
        for target in self.description.targets.values():
            if not isinstance(target, TABLES):
                patterns.append(target.path)
        for values in self._values.values():
            for name in self.ids:
                value = values.get(name)
                state.update(f"{name}:".encode() + (b"" if value is None else value.tobytes()))
        for name in self.ids:
            for pattern in patterns:
                path = self._path(pattern, name)
                try:
                    stat = path.stat()
                    entry = f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}"
                except OSError:
                    entry = f"{path.name}:missing"
                state.update(f"{name}:{entry}\n".encode())
        return state.hexdigest()[:32]


def _read_text(path: Path, limit: int = MAX_DESCRIPTION) -> bytes:
    """A file of bounded length.

    Raises:
        DataError: it is longer, or no plain file. OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():  # a pipe would keep us waiting
        raise DataError(f"{path}: not a plain file.")
    with path.open("rb") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise DataError(f"{path}: larger than {limit // 10**6} MB.")
    return text


def _read_description(root: Path) -> Description:
    path = root / FILE
    try:
        text = _read_text(path)
        return Description.model_validate(from_json(text.removeprefix(BOM_UTF8)))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file.",
            hint="A `folder` data set needs a dataset.json: see docs/reference/folder.md.",
        ) from None
    except OSError as err:
        raise DataError(f"{path}: cannot be read: {err.strerror}.") from err
    except ValidationError as err:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors()[:8]
        )
        raise DataError(f"{path}: {problems}.", hint="See docs/reference/folder.md.") from err
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}: not valid JSON: {err}.") from err


def _info(description: Path, target: Target) -> TargetInfo:
    if isinstance(target, (IndexTarget, ClassTarget)):
        where = target.path if isinstance(target, IndexTarget) else target.table
        try:
            return TargetInfo(labels=target.schema_())
        except ValidationError as err:
            raise DataError(f"{description}: {where}: {err.errors()[0]['msg']}.") from err
    return TargetInfo(unit=getattr(target, "unit", None))


def _decode(
    path: Path,
    target: LinearTarget | IndexTarget | BinaryTarget | VectorTarget,
    size: tuple[int, int],
) -> np.ndarray:
    """Values of a target file in the layout promised by `FolderDataset`."""
    stored = path.suffix == ".npy"
    raw = _read_npy(path) if stored else read_raw(path)
    if raw.shape[:2] != size:
        raise DataError(
            f"{path}: {raw.shape[1]}×{raw.shape[0]} but its image is {size[1]}×{size[0]}.",
            hint="Image and targets must have the same size.",
        )
    channels = 3 if isinstance(target, VectorTarget) else 2
    if raw.ndim != channels:
        raise DataError(f"{path}: {raw.ndim} axes, {channels} expected for {target.encoding!r}.")
    match target:
        case LinearTarget():
            return _decode_linear(path, raw, target, stored)
        case VectorTarget():
            return _decode_vector(path, raw, target, stored)
        case BinaryTarget():
            return _decode_binary(path, raw, target, stored)
        case IndexTarget():
            return _decode_index(path, raw, target)


def _decode_binary(path: Path, raw: np.ndarray, target: BinaryTarget, stored: bool) -> np.ndarray:
    ignored = np.zeros(raw.shape, bool) if target.ignore is None else raw == target.ignore
    if stored:
        ignored |= raw == 255
        if not (ignored | (raw == 0) | (raw == 1)).all():
            raise DataError(
                f"{path}: holds values other than 0, 1 and 255.",
                hint="A .npy file holds decoded values: 1 positive, 0 negative, 255 ignored.",
            )
        positive = raw == 1
    else:
        _require_finite(path, raw, ~ignored)
        positive = raw >= target.threshold
    return np.where(ignored, 255, positive.astype(np.int64))


def _decode_linear(path: Path, raw: np.ndarray, target: LinearTarget, stored: bool) -> np.ndarray:
    value = _as_float(raw)
    missing = np.isnan(value) if target.invalid == "nan" else value == target.invalid
    if not stored:
        value = value * np.float32(target.scale) + np.float32(target.offset)
    _require_finite(path, value, ~missing)
    return np.where(missing, np.float32(0), value)


def _decode_vector(path: Path, raw: np.ndarray, target: VectorTarget, stored: bool) -> np.ndarray:
    value = _as_float(raw)
    missing = np.zeros(raw.shape[:2], bool)
    if target.invalid is not None:
        if len(target.invalid) != raw.shape[2]:
            raise DataError(
                f"{path}: {raw.shape[2]} channels, but `invalid` in dataset.json has "
                f"{len(target.invalid)} values."
            )
        missing = (value == np.asarray(target.invalid, np.float32)).all(axis=2)
    if not stored:
        value = value * np.float32(target.scale) + np.float32(target.offset)
    _require_finite(path, value, ~missing[..., None] & np.ones_like(value, bool))
    length = np.sqrt((value * value).sum(axis=2, keepdims=True))
    unit = value / np.maximum(length, np.float32(1e-6))
    return np.where(missing[..., None] | (length < 1e-6), np.float32(0), unit)


def _decode_index(path: Path, raw: np.ndarray, target: IndexTarget) -> np.ndarray:
    if raw.dtype.kind == "f" and not (np.isfinite(raw) & (raw == np.trunc(raw))).all():
        raise DataError(f"{path}: holds values that are not whole numbers.")
    label = raw.astype(np.int64)
    wrong = (label != target.ignore_index) & ((label < 0) | (label >= len(target.labels)))
    if wrong.any():
        values = ", ".join(map(str, np.unique(label[wrong])[:8]))
        raise DataError(
            f"{path}: label {values} is outside the schema: {len(target.labels)} classes "
            f"(0…{len(target.labels) - 1}) and {target.ignore_index} for ignored pixels.",
            hint="Correct the file, or `labels` and `ignore_index` in dataset.json.",
        )
    return label


def _as_float(raw: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # becomes infinite, which is reported
        return raw.astype(np.float32)


def _require_finite(path: Path, value: np.ndarray, where: np.ndarray) -> None:
    bad = int((~np.isfinite(value) & where).sum())
    if bad:
        raise DataError(
            f"{path}: {bad} values are NaN or infinite.",
            hint='Write 0 where nothing was measured, or declare "invalid": "nan".',
        )


def _read_npy(path: Path) -> np.ndarray:
    if path.exists() and not path.is_file():  # a pipe would keep us waiting
        raise DataError(f"{path}: not a plain file.")
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # .npy only: no pickle, no .npz
    except Exception as err:  # of a damaged header numpy's parser raises anything
        raise DataError(f"{path}: not a .npy file that can be read: {err}.") from err
    if array.ndim not in (2, 3) or array.dtype.kind not in "biuf":
        raise DataError(f"{path}: shape {array.shape} of {array.dtype} is not a target.")
    if array.ndim == 3 and array.shape[2] > MAX_CHANNELS:  # height and width are the image's
        raise DataError(f"{path}: {array.shape[2]} channels, more than {MAX_CHANNELS}.")
    return np.asarray(array)
