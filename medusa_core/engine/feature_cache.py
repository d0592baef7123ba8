"""Features and targets of a frozen backbone, computed once and memory-mapped while heads train.

A file is named by a hash of all that decides its content: fingerprint, data, size, views, type.
Views are cached as images are: flipping features instead would be wrong, since the padding of a
stride-2 convolution is not symmetric.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medusa_core.api import Dataset, FeatureInfo
from medusa_core.backbones.timm_backbone import Backbone, pad_to_stride
from medusa_core.data.geometry import Size, View, view_image
from medusa_core.engine.binding import Binding
from medusa_core.engine.row_file import RowWriter, read_rows, remove_leftovers
from medusa_core.errors import DataError, StoreError
from medusa_core.model.images import to_tensor
from medusa_core.progress import Progress
from medusa_core.settings import folder_setting, read_settings

CACHE_VERSION = 1
BATCH = 8
PADDING = (124, 116, 104)
"""RGB beside a picture that does not fill the canvas: the mean colour of ImageNet."""


def cache_folder() -> Path:
    """Where features are kept: as the user has set, or `medusa` in the XDG cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder_setting("MEDUSA_CACHE", read_settings().cache, base / "medusa") / "features"


@dataclass(frozen=True)
class Source:
    """What rows are made of: row `i * len(views) + v` is view `v` of sample `i`."""

    dataset: Dataset
    size: Size
    views: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.dataset) * len(self.views)

    def identity(self) -> dict[str, Any]:
        """What the content of every file of this source depends on."""
        return {
            "version": CACHE_VERSION,
            "data": self.dataset.digest,
            "size": list(self.size),
            "views": [asdict(view) for view in self.views],
        }


@dataclass(frozen=True)
class CachedTask:
    """Features and targets of one task, by row."""

    source: Source
    info: FeatureInfo
    features: np.ndarray
    targets: np.ndarray
    valid: np.ndarray

    def batch(self, rows: Sequence[int]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Feature levels `(B, C, h, w) float32`, target, and valid mask of some rows."""
        flat = torch.from_numpy(np.stack([self.features[row] for row in rows])).float()
        levels, start = [], 0
        padded = padded_size(self.source.size, max(self.info.strides))
        for channels, stride in zip(self.info.channels, self.info.strides, strict=True):
            height, width = padded[0] // stride, padded[1] // stride
            part = flat[:, start : start + channels * height * width]
            start += channels * height * width
            levels.append(part.view(len(rows), height, width, channels).permute(0, 3, 1, 2))
        target = np.stack([self.targets[row] for row in rows])
        valid = np.stack([self.valid[row] for row in rows]).astype(bool)
        return levels, as_target(target), torch.from_numpy(valid)


def as_target(target: np.ndarray) -> Tensor:
    """`(B, H, W)` or `(B, H, W, C)` rows → the layout losses and metrics expect.

    Integers become int64, floats float32; channels move to axis 1.
    """
    tensor = torch.from_numpy(target)
    tensor = tensor.float() if tensor.is_floating_point() else tensor.long()
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def padded_size(size: Size, stride: int) -> Size:
    """(H, W) rounded up to multiples of the stride."""
    return size[0] + -size[0] % stride, size[1] + -size[1] % stride


def cache_tasks(
    backbone: Backbone,
    fingerprint: str,
    source: Source,
    bindings: Sequence[Binding],
    progress: Progress,
) -> list[CachedTask]:
    """Features and targets of every binding, computed where they are not cached yet.

    Raises:
        DataError: a sample cannot be read, or a target has no valid pixel in the whole set.
        StoreError: the cache cannot be written.
    """
    inputs = _Inputs(
        {"kind": "features", "backbone": fingerprint},
        (_row_length(backbone, source.size),),
        np.dtype(np.float16),
        lambda images: _features(backbone, images),
    )
    features, targets = _cached_rows(source, inputs, bindings, progress)
    return [CachedTask(source, backbone.info, features, *rows) for rows in targets]


def cache_images(
    source: Source, bindings: Sequence[Binding], progress: Progress
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Images `(rows, H, W, 3) uint8` and, a binding, targets and valid masks; as `cache_tasks`."""
    inputs = _Inputs({"kind": "images"}, (*source.size, 3), np.dtype(np.uint8), np.stack)
    return _cached_rows(source, inputs, bindings, progress)


@dataclass(frozen=True)
class _Inputs:
    """What a training reads beside targets: how a file of it is named, laid out and computed."""

    identity: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype
    compute: Callable[[list[np.ndarray]], np.ndarray]


def _cached_rows(
    source: Source, inputs: _Inputs, bindings: Sequence[Binding], progress: Progress
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise StoreError(
            f"{folder}: cannot be created: {err.strerror}.", hint="Choose another: MEDUSA_CACHE=DIR"
        ) from err
    identity = source.identity()
    input_file = folder / _name({**identity, **inputs.identity})
    files = []
    for binding in bindings:
        path = folder / _name({**identity, "kind": "target", **_describe(binding)})
        files.append((path, path.with_suffix(".valid.safetensors")))
    missing = [
        (binding, *paths)
        for binding, paths in zip(bindings, files, strict=True)
        if not all(path.exists() for path in paths)
    ]
    if missing or not input_file.exists():
        remove_leftovers(folder)
        _fill(source, None if input_file.exists() else (input_file, inputs), missing, progress)
    targets = [(read_rows(target)[0], read_rows(valid)[0]) for target, valid in files]
    for binding, (_, valid) in zip(bindings, targets, strict=True):
        if not valid.any():
            raise DataError(
                f"{source.dataset.name}: no valid pixel of {binding.task.spec.target_name!r} in "
                f"{len(source.dataset)} images.",
                hint="Check the target's files and its invalid or ignore value.",
            )
    return read_rows(input_file)[0], targets


def _fill(
    source: Source,
    new_inputs: tuple[Path, _Inputs] | None,
    targets: list[tuple[Binding, Path, Path]],
    progress: Progress,
) -> None:
    """One pass over the data set that writes whatever is missing."""
    names = {binding.task.spec.target_name for binding, _, _ in targets if not binding.from_image}
    progress.start(f"Caching {source.dataset.name} ({source.dataset.split})", len(source.dataset))
    with ExitStack() as stack:
        writers = [_target_writers(stack, source, *target) for target in targets]
        writer = None
        if new_inputs is not None:
            path, inputs = new_inputs
            writer = stack.enter_context(
                RowWriter(path, len(source), inputs.shape, inputs.dtype, {})
            )
        waiting: list[np.ndarray] = []
        for index in range(len(source.dataset)):
            sample = source.dataset.load(index, names)
            for view in source.views:
                shown = view_image(sample.image, source.size, view, PADDING)
                for (binding, _, _), (target_writer, valid_writer) in zip(
                    targets, writers, strict=True
                ):
                    found = binding.viewed(sample, shown, source.size, view)
                    target, valid = found or binding.missing(source.size)
                    target_writer.write(_compact(target, binding))
                    valid_writer.write(valid.astype(np.uint8))
                waiting.append(shown)
            if len(waiting) >= BATCH or index == len(source.dataset) - 1:
                if new_inputs is not None and writer is not None:
                    for row in new_inputs[1].compute(waiting):
                        writer.write(row)
                waiting.clear()
            progress.advance()
    progress.finish()


def _target_writers(
    stack: ExitStack, source: Source, binding: Binding, target_file: Path, valid_file: Path
) -> tuple[RowWriter, RowWriter]:
    target, valid = binding.missing(source.size)
    first, second = (
        stack.enter_context(RowWriter(path, len(source), array.shape, array.dtype, {}))
        for path, array in (
            (target_file, _compact(target, binding)),
            (valid_file, valid.astype(np.uint8)),
        )
    )
    return first, second


@torch.inference_mode()
def _features(backbone: Backbone, images: list[np.ndarray]) -> np.ndarray:
    """`(B, K) float16`: the levels of each image, each `(h, w, C)`, one after the other."""
    batch = to_tensor(np.stack(images)).to(backbone.mean.device)
    levels = backbone(pad_to_stride(batch, backbone.stride, backbone.mean))
    flat = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in levels], dim=1)
    return flat.clamp(-65504, 65504).to(torch.float16).cpu().numpy()


def _row_length(backbone: Backbone, size: Size) -> int:
    height, width = padded_size(size, backbone.stride)
    return sum(
        channels * (height // stride) * (width // stride)
        for channels, stride in zip(backbone.info.channels, backbone.info.strides, strict=True)
    )


def _compact(target: np.ndarray, binding: Binding) -> np.ndarray:
    """The smallest lossless type: bytes for masks and for up to 256 classes."""
    if target.dtype.kind == "f":
        return target.astype(np.float32)
    labels = binding.labels
    small = binding.task.spec.output.activation == "sigmoid"
    if labels is not None:
        small = len(labels.names) <= 256 and 0 <= labels.ignore_index <= 255
    return target.astype(np.uint8 if small else np.int64)


def _describe(binding: Binding) -> dict[str, Any]:
    """What cached targets depend on: the spec, the classes, and the code that encodes them."""
    task = binding.task
    code = Path(inspect.getfile(type(task))).read_bytes()
    return {
        "task": task.spec.model_dump(mode="json"),
        "labels": binding.labels.model_dump() if binding.labels is not None else None,
        "code": hashlib.sha256(code).hexdigest(),
    }


def _name(description: dict[str, Any]) -> str:
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"
