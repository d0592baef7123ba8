"""The files of the feature cache: what is in each, how it is named and laid out.

There is one file a view of the inputs (features or images), and two a task and view: target and
valid mask. A file is named by a hash of all that decides its content and holds the whole of that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medusa_core.api import Dataset
from medusa_core.data.geometry import Size, View, invalid_value
from medusa_core.data.targets import bounds
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_folder import cache_folder
from medusa_core.engine.datasets import image_digest
from medusa_core.engine.row_file import RowWriter, file_size, read_rows
from medusa_core.errors import StoreError
from medusa_core.plugin_host.attribution import AttributedTask
from medusa_core.plugin_host.code import code_digest

CACHE_VERSION = 6


@dataclass(frozen=True)
class Source:
    """What rows are made of: row `i * len(views) + v` is view `v` of sample `i`."""

    dataset: Dataset
    size: Size
    views: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.dataset) * len(self.views)

    def identities(self, data: str) -> list[dict[str, Any]]:
        """What the content of the file of each view depends on; `data` is a digest."""
        return [
            {
                "version": CACHE_VERSION,
                "data": data,
                "size": list(self.size),
                "view": asdict(view),
            }
            for view in self.views
        ]


class Rows:
    """The files of all views as one sequence: row `i * views + v` is row `i` of file `v`."""

    def __init__(self, files: Sequence[np.ndarray]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files) * len(self.files[0])

    def __getitem__(self, row: int) -> np.ndarray:
        """A row, mapped from the disk."""
        sample, view = divmod(row, len(self.files))
        found: np.ndarray = self.files[view][sample]
        return found

    @property
    def dtype(self) -> np.dtype:
        """Of every row."""
        return self.files[0].dtype

    def any(self) -> bool:
        """Whether anything is not zero; reads no further than that."""
        return any(bool(row.any()) for file in self.files for row in file)


@dataclass(frozen=True)
class Inputs:
    """What a training reads beside targets: how a file of it is named, laid out and computed."""

    identity: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype
    compute: Callable[[list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class File:
    """One file: all samples in one view. `binding` is the number of the task, None for inputs."""

    path: Path
    identity: str
    view: int
    part: str
    binding: int | None
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return file_size((self.count, *self.shape), self.dtype, self._about())

    def open(self) -> np.ndarray | None:
        """The rows; None where there are none, or not those that the name promises."""
        if not self.path.exists():
            return None
        try:
            rows, metadata = read_rows(self.path)
        except StoreError:
            return None
        if metadata.get("identity") != self.identity or rows.dtype != self.dtype:
            return None
        return rows if rows.shape == (self.count, *self.shape) else None

    def writer(self) -> RowWriter:
        """Writes the file anew."""
        return RowWriter(self.path, self.count, self.shape, self.dtype, self._about())

    def _about(self) -> dict[str, str]:
        return {"identity": self.identity}


def files_of(source: Source, inputs: Inputs, bindings: Sequence[Binding]) -> list[File]:
    """Every file that these tasks need."""
    parts: list[tuple[str, int | None, dict[str, Any], tuple[int, ...], np.dtype]] = []
    parts.append(("input", None, inputs.identity, inputs.shape, inputs.dtype))
    for number, binding in enumerate(bindings):
        target, valid = binding.missing(source.size)
        target, about = compact(target, binding), _describe(binding)
        parts += [
            ("target", number, {"kind": "target", **about}, target.shape, target.dtype),
            ("valid", number, {"kind": "valid", **about}, valid.shape, np.dtype(np.uint8)),
        ]
    files = []
    for part, task, about, shape, dtype in parts:
        data = image_digest(source.dataset) if task is None else source.dataset.digest
        for view, identity in enumerate(source.identities(data)):
            text = json.dumps({**identity, **about}, sort_keys=True, separators=(",", ":"))
            name = f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"
            path, count = cache_folder() / name, len(source.dataset)
            files.append(File(path, text, view, part, task, count, shape, dtype))
    return files


def compact(target: np.ndarray, binding: Binding) -> np.ndarray:
    """The smallest lossless type: bytes for masks and for up to 256 classes."""
    if target.dtype.kind == "f":
        return target.astype(np.float32)
    spec, labels = binding.task.spec, binding.labels
    extremes = (*bounds(spec, labels), invalid_value(spec.target, labels))
    small = all(value is not None and 0 <= value <= 255 for value in extremes)
    return target.astype(np.uint8 if small else np.int64)


def _describe(binding: Binding) -> dict[str, Any]:
    """What cached targets depend on: the spec, the classes, and the code that encodes them."""
    task = binding.task
    inner = task.inner if isinstance(task, AttributedTask) else task
    return {
        "task": task.spec.model_dump(mode="json"),
        "labels": binding.labels.model_dump() if binding.labels is not None else None,
        "code": code_digest(type(inner)),
    }
