"""Features and targets of a frozen backbone, computed once and memory-mapped while heads train.

Views are cached as images are: flipping features instead would be wrong, since the padding of a
stride-2 convolution is not symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from medusa_core.api import FeatureInfo
from medusa_core.backbones.timm_backbone import Backbone, pad_to_stride
from medusa_core.data.geometry import Size
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import File, Inputs, Rows, Source, files_of
from medusa_core.engine.cache_folder import (
    cache_folder,
    make_room,
    remove_partials,
    shown_bytes,
    this_boot,
    touch,
)
from medusa_core.engine.cache_pass import fill
from medusa_core.engine.row_file import RowWriter
from medusa_core.errors import DataError, StoreError
from medusa_core.model.execution import prepared
from medusa_core.model.images import to_tensor
from medusa_core.progress import Progress


@dataclass(frozen=True)
class CachedTask:
    """Features and targets of one task, by row."""

    source: Source
    info: FeatureInfo
    features: Rows
    targets: Rows
    valid: Rows

    def labelled(self) -> list[int]:
        """Samples whose target has a valid pixel, as their first view shows it."""
        return [sample for sample, valid in enumerate(self.valid.files[0]) if valid.any()]

    def batch(self, rows: Sequence[int]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Levels `(B, C, h, w) float32` as computed, target, `(B, H, W) bool` mask of some rows."""
        flat = torch.from_numpy(np.stack([self.features[row] for row in rows]))
        levels, start = [], 0
        for channels, height, width in self.info.shapes(self.source.size):
            part = flat[:, start : start + channels * height * width].float()
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
        StoreError: they do not fit, or cannot be written.
    """
    found = cache_each(backbone, fingerprint, source, bindings, progress)
    return [_required(cached) for cached in found]


def cache_each(
    backbone: Backbone,
    fingerprint: str,
    source: Source,
    bindings: Sequence[Binding],
    progress: Progress,
) -> list[CachedTask | BaseException]:
    """As `cache_tasks`; where one target cannot be cached, its error, and the others all the same.

    Raises:
        DataError: an image cannot be read.
        StoreError: as `cache_tasks`.
    """
    inputs = _feature_inputs(backbone, fingerprint, source.size)
    features, targets = _cached_rows(source, inputs, bindings, progress)
    return [
        rows
        if isinstance(rows, BaseException)
        else CachedTask(source, backbone.info, features, *rows)
        for rows in targets
    ]


Arrays = tuple[np.ndarray, np.ndarray]


def cache_images(
    source: Source, bindings: Sequence[Binding], progress: Progress
) -> tuple[np.ndarray, list[Arrays]]:
    """Images `(N, H, W, 3) uint8` and, a binding, targets and valid masks; as `cache_tasks`.

    The source has one view.
    """
    inputs = Inputs({"kind": "images"}, (*source.size, 3), np.dtype(np.uint8), np.stack)
    images, found = _cached_rows(source, inputs, bindings, progress)
    targets = [_required(rows) for rows in found]
    return images.files[0], [(target.files[0], valid.files[0]) for target, valid in targets]


def cache_sizes(
    backbone: Backbone, fingerprint: str, source: Source, bindings: Sequence[Binding]
) -> dict[Path, int]:
    """Every file that `cache_tasks` reads, or writes where there is none → bytes of its rows."""
    inputs = _feature_inputs(backbone, fingerprint, source.size)
    return {file.path: file.size for file in files_of(source, inputs, bindings)}


_Cached = TypeVar("_Cached")


def _required(found: _Cached | BaseException) -> _Cached:
    if isinstance(found, BaseException):
        raise found
    return found


def _feature_inputs(backbone: Backbone, fingerprint: str, size: Size) -> Inputs:
    return Inputs(
        {"kind": "features", "backbone": fingerprint},
        (sum(math.prod(shape) for shape in backbone.info.shapes(size)),),
        np.dtype(np.float16),
        _Features(backbone),
    )


def _cached_rows(
    source: Source, inputs: Inputs, bindings: Sequence[Binding], progress: Progress
) -> tuple[Rows, list[tuple[Rows, Rows] | BaseException]]:
    files = files_of(source, inputs, bindings)
    found = {file: rows for file in files if (rows := file.open()) is not None}
    for file in found:
        remove_partials(file.path)  # of a pass that was killed while another one was faster
    failed: dict[int, BaseException] = {}
    if missing := [file for file in files if file not in found]:
        _make_folder()
        try:
            with ExitStack() as stack:
                writers = {file: stack.enter_context(file.writer()) for file in missing}
                _announce(source, files, writers, progress)
                failed = fill(source, inputs, bindings, writers, progress)
        except KeyboardInterrupt:
            if this_boot():
                progress.message("What was cached is kept; the same command goes on from there.")
            raise
        found |= {file: w.rows for file, w in writers.items() if w.rows is not None}
    for file in found:
        touch(file.path)
    if bindings and len(failed) == len(bindings):
        return Rows([]), [failed[number] for number in range(len(bindings))]

    def rows_of(part: str, binding: int | None) -> Rows:
        return Rows([found[f] for f in files if (f.part, f.binding) == (part, binding)])

    targets: list[tuple[Rows, Rows] | BaseException] = []
    for number, binding in enumerate(bindings):
        if number in failed:
            targets.append(failed[number])
            continue
        target, valid = rows_of("target", number), rows_of("valid", number)
        targets.append((target, valid) if valid.any() else _nothing_valid(source, binding))
    return rows_of("input", None), targets


def _nothing_valid(source: Source, binding: Binding) -> DataError:
    spec = binding.task.spec
    known = "pixel" if spec.output.kind == "dense" else "value"
    return DataError(
        f"{source.dataset.name}: no valid {known} of {spec.target_name!r} in "
        f"{len(source.dataset)} images.",
        hint="Check the target's files, its name in the samples, and its invalid or ignore value.",
    )


def _make_folder() -> None:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise StoreError(
            f"{folder}: cannot be created: {err.strerror}.", hint="Choose another: MEDUSA_CACHE=DIR"
        ) from err


def _announce(
    source: Source, files: Sequence[File], writers: Mapping[File, RowWriter], progress: Progress
) -> None:
    """Make room for what is missing, and say how much it is; refuse what cannot fit."""
    folder = cache_folder()
    needed = sum(writer.missing_bytes for writer in writers.values())
    used = {file.path for file in files} | {writer.temporary for writer in writers.values()}
    free = make_room(folder, needed, used)
    progress.message(
        f"Caching {len(source.dataset)} images of {source.dataset.name} in {len(source.views)} "
        f"view{'s' if len(source.views) > 1 else ''}: {shown_bytes(needed)} in {folder}, where "
        f"{shown_bytes(free)} are free."
    )


class _Features:
    """Rows of features; the backbone is made ready for inference at the first images."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._network: Callable[[Tensor], list[Tensor]] | None = None

    @torch.inference_mode()
    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        """`(B, K) float16`: the levels of each image, each `(h, w, C)`, one after the other."""
        batch = to_tensor(np.stack(images)).to(self.backbone.mean.device)
        batch = pad_to_stride(batch, self.backbone.stride, self.backbone.mean)
        if self._network is None:
            self._network = prepared(self.backbone, batch[:1])
        levels = self._network(batch)
        flat = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in levels], dim=1)
        return flat.clamp(-65504, 65504).to(torch.float16).cpu().numpy()
