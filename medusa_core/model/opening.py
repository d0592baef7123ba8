"""Opening a model folder: its backbone, and the heads that are wanted."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from medusa_core.backbones.timm_backbone import Backbone, build
from medusa_core.errors import MedusaWarning, StoreError
from medusa_core.model.assembly import description_of, load_strictly
from medusa_core.model.devices import choose_device
from medusa_core.model.execution import Execution
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.names import as_names
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.store.folder import ModelFolder
from medusa_core.store.manifest import BackboneRecord


def open_model(
    path: str | Path = "medusa-model",
    tasks: str | Collection[str] | None = None,
    device: str = "cpu",
    host: Host | None = None,
    execution: Execution | None = None,
) -> MedusaModel:
    """Open a model folder.

    Args:
        path: the folder.
        tasks: load only these heads; None: all.
        device: where to compute, such as "cpu" or "cuda".
        host: None: the installed plugins.
        execution: how networks are run; None: prepared for inference, in float32.

    Raises:
        StoreError: the folder is missing or damaged, or a head of `tasks` is.
        UnknownNameError: a head of `tasks` does not exist.
        PluginError: a head of `tasks` needs a plugin that is missing or broken.
        WeightsError: a head of `tasks` does not fit its architecture any more.
        FingerprintError: a head belongs to another backbone.
        UsageError: the fields of `execution` do not go together, or torch cannot use the device.
    """
    host, device = host or default_host(), choose_device(device)
    names = None if tasks is None else as_names(tasks)
    with ModelFolder.open(Path(path)) as folder:
        record = folder.manifest.backbone
        model = MedusaModel(
            restore_backbone(record, folder.read_backbone()), record, folder.path, host, execution
        )
        for name in names or ():
            folder.require(name)
        for name in folder.manifest.heads if names is None else names:
            model.take(name, folder)
    if names is not None:
        model.select(names)
    for message in model.notes():
        warnings.warn(message, MedusaWarning, stacklevel=2)
    return model.to(device)


def restore_backbone(record: BackboneRecord, tensors: Mapping[str, Tensor]) -> Backbone:
    """The backbone of a model folder, frozen."""
    return build_backbone(record, tensors).freeze()


def build_backbone(record: BackboneRecord, tensors: Mapping[str, Tensor]) -> Backbone:
    """The backbone of a model folder, to be trained on.

    Raises:
        WeightsError: the weights do not fit. StoreError: its levels are not those recorded.
    """
    with torch.random.fork_rng(devices=[]):
        backbone = build(description_of(record), sum(t.numel() for t in tensors.values()))
    load_strictly(backbone.net, tensors, f"backbone {record.name!r}")
    if (backbone.info.channels, backbone.info.strides) != (record.channels, record.strides):
        raise StoreError(
            f"Backbone {record.name!r} gives channels {backbone.info.channels} with this timm, "
            f"the model folder records {record.channels}."
        )
    return backbone
