"""Reading a model folder: a snapshot that no later change by others can disturb."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from medusa_core.errors import FingerprintError, StoreError
from medusa_core.store import container, files, records
from medusa_core.store.layout import Layout, unknown_head
from medusa_core.store.manifest import HeadManifest, ModelManifest

if TYPE_CHECKING:
    from torch import Tensor

_ATTEMPTS = 100
"""How often `open` starts again when other processes keep committing meanwhile."""


class ModelFolder:
    """One consistent state of a model folder. Weights are read (and checked) when asked for.

    It holds open descriptors of the backbone and of every head, so what others remove or replace
    stays readable here. They are closed by `close`, or when the object is collected.
    """

    path: Path
    manifest: ModelManifest
    heads: Mapping[str, HeadManifest]
    damaged: Mapping[str, StoreError]
    """Heads whose files cannot be read, and why: they are in nobody's way."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ModelFolder:
        """Take a snapshot. No lock: `model.json` being the same before and after proves it whole.

        Raises:
            StoreError: there is no model folder, or `model.json` is malformed or too new.
        """
        layout = Layout(Path(path))
        for before in records.states(layout, _ATTEMPTS):
            manifest = records.parse(ModelManifest, before.data, layout.model)
            try:
                folder = cls(layout, manifest)
            except StoreError:
                if records.read_state(layout) == before:
                    raise
                continue
            if records.read_state(layout) == before:
                break
            folder.close()
        return folder

    def __init__(self, layout: Layout, manifest: ModelManifest) -> None:
        """Open what `manifest` names; call `open` instead."""
        self.path = layout.root
        self.manifest = manifest
        self._layout = layout
        self._backbone: list[int] = []
        self._weights: dict[str, int] = {}
        self._documents: dict[str, bytes] = {}
        descriptors: list[int] = []
        self._close = weakref.finalize(self, _close_all, descriptors)
        heads: dict[str, HeadManifest] = {}
        damaged: dict[str, StoreError] = {}
        try:
            for candidate in (layout.next_backbone, layout.backbone):  # see `transaction`
                if files.exists(candidate):
                    self._backbone.append(files.open_read(candidate, layout.root))
                    descriptors.append(self._backbone[-1])
            for name, rev in manifest.heads.items():
                try:
                    document, head = records.read_head(layout, name, rev)
                    weights = files.open_read(layout.head_weights(name, rev), layout.root)
                except StoreError as err:
                    if files.is_shortage(err):
                        raise
                    damaged[name] = err.with_traceback(None)  # which holds this object
                    continue
                self._documents[name], self._weights[name], heads[name] = document, weights, head
                descriptors.append(weights)
        except BaseException:
            self.close()
            raise
        self.heads, self.damaged = MappingProxyType(heads), MappingProxyType(damaged)

    def read_backbone(self) -> dict[str, Tensor]:
        """The tensors of the backbone; errors as of `read_backbone_bytes`."""
        from medusa_core.store import weights

        return weights.from_bytes(self.read_backbone_bytes(), self._layout.backbone)

    def read_backbone_bytes(self) -> bytes:
        """The file of the backbone as it is on the disk.

        Raises:
            StoreError: it is missing, or is not the one that was committed.
        """
        path = self._layout.backbone
        for descriptor in self._backbone:
            data = self._read(descriptor, path, container.MAX_BACKBONE_BYTES)
            if records.sha256(data) == self.manifest.backbone.weights_sha256:
                return data
        raise StoreError(
            f"{path} is {'damaged' if self._backbone else 'missing'}: no file has the sha256 that "
            f"model.json records ({self.manifest.backbone.weights_sha256[:12]}…).",
            hint="Restore it from a copy: every head depends on exactly these weights.",
        )

    def read_head(self, name: str) -> dict[str, Tensor]:
        """The tensors of a head; errors as of `read_head_bytes`."""
        from medusa_core.store import weights

        data = self.read_head_bytes(name)
        return weights.from_bytes(data, self._weights_path(name))

    def read_head_bytes(self, name: str) -> bytes:
        """`head.safetensors` of a head as it is on the disk.

        Raises:
            UnknownNameError: there is no such head.
            StoreError: the head cannot be read, or is not the one that was committed.
            FingerprintError: it belongs to another backbone.
        """
        self.require(name)
        head, fingerprint = self.heads[name], self.manifest.backbone.fingerprint
        if head.fingerprint != fingerprint:
            raise fingerprint_error(name, head.fingerprint, fingerprint)
        path = self._weights_path(name)
        data = self._read(self._weights[name], path, container.MAX_HEAD_BYTES)
        whole = records.revision(self._documents[name], data) == self.manifest.heads[name]
        if not whole or records.sha256(data) != head.sha256:
            raise StoreError(
                f"{path.parent} is damaged: head.json and head.safetensors are not what was "
                "committed.",
                hint=f"Restore it from a copy, or remove it: medusa remove-task {name}",
            )
        return data

    def head_document(self, name: str) -> bytes:
        """`head.json` of a head as it is on the disk."""
        self.require(name)
        return self._documents[name]

    def require(self, name: str) -> None:
        """Check that a head is there and readable.

        Raises:
            UnknownNameError: there is none of that name.
            StoreError: its files cannot be read.
        """
        if name in self.damaged:
            raise self.damaged[name]
        if name not in self.heads:
            raise unknown_head(name, self.manifest.heads)

    def close(self) -> None:
        """Close all descriptors. Reading is over then; what was read stays."""
        self._backbone.clear()
        self._weights.clear()
        self._close()

    def __enter__(self) -> ModelFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _weights_path(self, name: str) -> Path:
        return self._layout.head_weights(name, self.manifest.heads[name])

    def _read(self, descriptor: int, path: Path, limit: int) -> bytes:
        with files.reported("read", path):
            return files.read_open(descriptor, path, limit)


def fingerprint_error(name: str, head: str, backbone: str) -> FingerprintError:
    """The error for a head that was trained on another backbone."""
    return FingerprintError(
        f"Head {name!r} was trained on the backbone {head[:12]}… "
        f"but the backbone of this model is {backbone[:12]}….",
        hint="Heads cannot be moved between backbones. Train it on this one: medusa add-task",
    )


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
