"""`MedusaModel`: predictions of independent heads from one pass of a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medusa_core.api import HeadRemoved, LabelSchema, Task
from medusa_core.backbones.timm_backbone import Backbone, pad_to_stride
from medusa_core.errors import (
    MedusaError,
    PluginError,
    StoreError,
    UsageError,
    WeightsError,
)
from medusa_core.heads.base import Head
from medusa_core.model.assembly import (
    added,
    find_task,
    restore_head,
    version_changes,
)
from medusa_core.model.execution import Execution, Runner
from medusa_core.model.images import (
    MIN_SIDE,
    as_image,
    finish,
    resized,
    to_tensor,
    undo_zoom,
    working_size,
)
from medusa_core.model.tiles import blended
from medusa_core.model.upsampling import upsample
from medusa_core.names import as_names
from medusa_core.plugin_host.host import Host
from medusa_core.store import commit
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import unknown_head
from medusa_core.store.manifest import BackboneRecord, HeadManifest

if TYPE_CHECKING:
    from medusa_core.store.commit import NewHead


@dataclass(frozen=True)
class Result:
    """A decoded prediction for one image.

    value: `(H, W)` or `(C, H, W)` at the size of the image (dense), `()` or `(C,)` (global), in
        `unit`; class numbers of `labels` where these are given.
    """

    head: str
    task: str
    value: np.ndarray
    unit: str | None
    labels: LabelSchema | None


class MedusaModel(nn.Module):
    """One frozen backbone and its heads, as stored in a model folder.

    A head's output depends on the image and that head alone: not on which other heads are asked
    for or present. The model never leaves evaluation mode; it is trained by `medusa add-task`.
    """

    def __init__(
        self,
        backbone: Backbone,
        record: BackboneRecord,
        path: Path,
        host: Host,
        execution: Execution | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone.freeze()
        self.record = record
        self.path = path
        self.host = host
        self.tasks: dict[str, Task] = {}
        self._manifests: dict[str, HeadManifest] = {}
        self._unusable: dict[str, MedusaError] = {}
        self._modules_by_head = nn.ModuleDict()
        self._runner = Runner(self.backbone, execution or Execution())
        self.eval()

    @property
    def heads(self) -> Mapping[str, HeadManifest]:
        """Name → record of every head that can be used, in order of name."""
        return MappingProxyType({name: self._manifests[name] for name in sorted(self.tasks)})

    @property
    def orphans(self) -> Mapping[str, MedusaError]:
        """Name → reason of every head that cannot be used.

        Its plugin is missing, broken or of an unfit version, or its files are damaged.
        """
        return MappingProxyType(self._unusable)

    def notes(self) -> list[str]:
        """What users should know: orphans, and heads whose plugin changed since their training."""
        lines = [f"{err.message} {err.hint or ''}".strip() for err in self._unusable.values()]
        for name, stored in self.heads.items():
            changed = version_changes(self.host, name, stored)
            lines += [f"{line} Check it: medusa verify" for line in changed]
        return lines

    def train(self, mode: bool = True) -> MedusaModel:
        """Accepted for the sake of `nn.Module`; everything here is fixed and stays in eval mode."""
        return super().train(False)

    @property
    def execution(self) -> Execution:
        """How its networks are run."""
        return self._runner.execution

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """As in `nn.Module`: moves and converts, so what was made ready must be made anew."""
        self._runner.forget()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """As in `nn.Module`: the weights change, whoever loads them."""
        self._runner.forget()
        super()._load_from_state_dict(*args, **kwargs)

    def head_module(self, name: str) -> Head:
        """The module of a head."""
        self.require(name)
        return self._modules_by_head[_key(name)]  # type: ignore[return-value]

    def require(self, name: str) -> HeadManifest:
        """The record of a usable head.

        Raises:
            UnknownNameError: there is no head of that name.
            PluginError, WeightsError: it is there, but its plugin is not, or does not fit.
            StoreError: its files are damaged.
        """
        if name in self._unusable:
            raise self._unusable[name]
        if name not in self.tasks:
            raise unknown_head(name, [*self.tasks, *self._unusable])
        return self._manifests[name]

    def select(self, tasks: Iterable[str] | None) -> list[str]:
        """Checked head names: those asked for, each once, or all usable ones for None."""
        names = list(self.heads) if tasks is None else as_names(tasks)
        for name in names:
            self.require(name)
        return names

    def require_some(self, tasks: Iterable[str] | None) -> list[str]:
        """As `select`, at least one.

        Raises:
            UsageError: there are no heads. PluginError, WeightsError, StoreError: why the first of
                them cannot be used, where none can.
        """
        names = self.select(tasks)
        if not names and self._unusable:
            raise next(iter(self._unusable.values()))
        if not names:
            raise UsageError("This model has no heads yet.", hint="Add one: medusa add-task TASK")
        return names

    def raw(self, images: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Raw predictions at the (H, W) of `(B, 3, H, W)` images in [0, 1] of any size."""
        size = (images.shape[-2], images.shape[-1])
        padded = pad_to_stride(images, self.backbone.stride, self.backbone.mean)
        outputs = self._runner(padded, {name: self.head_module(name) for name in names})
        return {name: finish(raw, self.tasks[name], size) for name, raw in outputs.items()}

    def parts(
        self, images: Tensor, names: Iterable[str]
    ) -> tuple[Callable[[], object], dict[str, Callable[[], object]], Callable[[], object]]:
        """Calls for timing them: the backbone, each head on its features, and all together."""
        padded = pad_to_stride(images, self.backbone.stride, self.backbone.mean)
        return self._runner.parts(padded, {name: self.head_module(name) for name in names})

    def forward(self, images: Tensor, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Raw predictions of the asked heads (None: all usable ones).

        Args:
            images: `(B, 3, H, W)` floats in [0, 1], any H and W of at least 16.
            tasks: head names.

        Returns:
            Head name → `(B, C, H, W) float32` at input size, `(B, C)` for a global task.

        Raises:
            UsageError: images of another shape or dtype.
            UnknownNameError, PluginError: a head does not exist, or cannot be used.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise UsageError(
                f"Images must be (B, 3, H, W) floats in [0, 1], got {tuple(images.shape)} "
                f"{images.dtype}."
            )
        if min(images.shape[-2:]) < MIN_SIDE:
            raise UsageError(
                f"Images of {images.shape[-1]}×{images.shape[-2]} are too small: at least "
                f"{MIN_SIDE} pixels a side are needed."
            )
        return self.raw(images.float(), self.select(tasks))

    @torch.inference_mode()
    def predict(
        self,
        source: str | Path | np.ndarray,
        tasks: Iterable[str] | None = None,
        long_side: int | None = None,
        tile: int | None = None,
    ) -> dict[str, Result]:
        """Decoded results for one image.

        Args:
            source: an image file, or `(H, W, 3) uint8` RGB.
            tasks: head names; None: all usable ones.
            long_side: length of the longer side, in pixels, at which the network sees the image;
                None: the one each head was trained at. Values that enlarging divides, as
                distances, are multiplied by as much as the image is shown larger than in training.
            tile: larger images are cut into overlapping tiles of so many pixels a side, whose
                predictions are blended, 128 at least; None: never. Not for tasks that a
                part of an image does not show (`zoom="invalid"`).

        Returns:
            Head name → result, at the size of the image.

        Raises:
            DataError: the image cannot be read.
            UnknownNameError: a head does not exist.
            PluginError, WeightsError, StoreError: why a head of `tasks` cannot be used.
            UsageError: `long_side` or `tile` is too small.
        """
        image = as_image(source)
        raw = self.run(self.scaled(image, self.select(tasks), long_side), tile)
        return self.results(raw, image.shape[:2], long_side)

    def raw_predictions(
        self, image: np.ndarray, names: Iterable[str], long_side: int | None = None
    ) -> dict[str, Tensor]:
        """Raw predictions at the size of one image, each head looking at its own scale.

        Args:
            image: `(H, W, 3) uint8`.
            names: heads; those of one scale share a pass of the backbone.
            long_side: see `predict`.

        Returns:
            Head name → `(1, C, H, W)`, or `(1, C)` for a global task.
        """
        return self._at_size(self.run(self.scaled(image, names, long_side)), image.shape[:2])

    def scaled(
        self, image: np.ndarray, names: Iterable[str], long_side: int | None = None
    ) -> list[tuple[list[str], Tensor]]:
        """The first step of `predict`: what the heads look at.

        Returns:
            (Heads of one scale, the image at it, `(1, 3, h, w) float32`) pairs.
        """
        groups: dict[tuple[int, int], list[str]] = {}
        for name in names:
            size = self.working_size(name, image.shape[:2], long_side)
            groups.setdefault(size, []).append(name)
        return [(members, to_tensor(resized(image, size))) for size, members in groups.items()]

    def run(
        self, views: Iterable[tuple[list[str], Tensor]], tile: int | None = None
    ) -> dict[str, Tensor]:
        """The second step of `predict`: raw predictions at the sizes of what `scaled` gave."""
        outputs: dict[str, Tensor] = {}
        for names, images in views:
            images = images.to(self.backbone.mean.device)
            is_cut = tile is not None and max(images.shape[-2:]) > tile
            whole = [name for name in names if is_cut and self._needs_all(name)]
            cut = [name for name in names if name not in whole]
            for some, side in ((whole, None), (cut, tile)):
                if some:
                    outputs |= blended(images, partial(self.raw, names=some), side)
        return outputs

    def _needs_all(self, name: str) -> bool:
        """Whether a part of a picture does not show what is to be told of all of it."""
        return self.tasks[name].spec.target.zoom == "invalid"

    @torch.inference_mode()
    def results(
        self, raw: Mapping[str, Tensor], size: Sequence[int], long_side: int | None = None
    ) -> dict[str, Result]:
        """The last step of `predict`: decoded results at the (H, W) of the image."""
        full = self._at_size(raw, size)
        return {name: self._result(name, r, size, long_side) for name, r in full.items()}

    def _at_size(self, raw: Mapping[str, Tensor], size: Sequence[int]) -> dict[str, Tensor]:
        height, width = size
        return {name: upsample(r, (height, width)) if r.ndim == 4 else r for name, r in raw.items()}

    def working_size(
        self, name: str, picture: Sequence[int], long_side: int | None = None
    ) -> tuple[int, int]:
        """(H, W) at which a head looks at a picture; see `working_size` of `model/images.py`."""
        return working_size(self.require(name).size, picture, long_side)

    def _result(
        self, name: str, raw: Tensor, picture: Sequence[int], long_side: int | None
    ) -> Result:
        task, stored = self.tasks[name], self._manifests[name]
        value = undo_zoom(task.decode(raw), task.spec, stored.size, picture, long_side)
        return Result(name, task.spec.name, value[0].cpu().numpy(), stored.unit, task.labels)

    def take(self, name: str, folder: ModelFolder) -> None:
        """Load a head of a model folder. One that cannot be used is an orphan, not an error.

        Raises:
            FingerprintError: it belongs to another backbone.
        """
        try:
            folder.require(name)
            self._manifests[name] = folder.heads[name]
            find_task(self.host, name, folder.heads[name])
            tensors = folder.read_head(name)
        except (PluginError, StoreError) as err:
            self._unusable[name] = err
        else:
            self.attach(name, folder.heads[name], tensors)

    def attach(self, name: str, stored: HeadManifest, tensors: Mapping[str, Tensor]) -> None:
        """Put a stored head into memory. A missing plugin makes it an orphan, not an error."""
        self._manifests[name] = stored
        try:
            task, head = restore_head(self.host, name, stored, self.backbone.info, tensors)
        except (PluginError, WeightsError) as err:
            self._unusable[name] = err
            return
        self.tasks[name] = task
        self._modules_by_head[_key(name)] = head.to(self.backbone.mean.device)

    def add_head(self, name: str, head: NewHead, replace: bool = False) -> None:
        """Commit a trained head to the model folder, then take it into memory.

        Raises:
            NameTakenError, FingerprintError, StoreError: nothing has changed.
        """
        from medusa_core.store.weights import from_bytes

        replaced = commit.commit_head(
            self.path, name, head, replace=replace, expect_fingerprint=self.record.fingerprint
        )
        self._forget(name)
        self.attach(name, head.manifest, from_bytes(head.weights, f"head {name!r}"))
        self.host.tell(added(self.path, name, head.manifest, replaced))

    def remove_head(self, name: str) -> None:
        """Remove a head from the model folder, then from memory."""
        if name not in self._unusable:
            self.require(name)
        commit.remove_heads(self.path, [name])
        self._forget(name)
        self.host.tell(HeadRemoved(self.path, name))

    def rename_head(self, old: str, new: str) -> None:
        """Give a head another name, in the model folder, then in memory."""
        if old not in self._manifests:
            self.require(old)
        commit.rename_head(self.path, old, new)
        with ModelFolder.open(self.path) as folder:
            stored, tensors = folder.heads[new], folder.read_head(new)
        self._forget(old)
        self.attach(new, stored, tensors)

    def verify(self) -> dict[str, object]:
        """What `medusa verify` reports about this model's folder."""
        from medusa_core.model.verification import verify_folder

        return verify_folder(self.path, self.host)

    def _forget(self, name: str) -> None:
        self._manifests.pop(name, None)
        self._unusable.pop(name, None)
        self._runner.forget([name])
        if self.tasks.pop(name, None) is not None:
            del self._modules_by_head[_key(name)]


def _key(name: str) -> str:
    """Module name of a head: prefixed, since `train`, `float`, … are taken by `nn.Module`."""
    return f"head_{name}"
