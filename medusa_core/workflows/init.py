"""`medusa init`: a model folder with a backbone and no heads."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from medusa_core.api import WeightsRequest
from medusa_core.backbones import pretrained as pretrained_weights
from medusa_core.backbones import timm_backbone
from medusa_core.backbones.fingerprint import fingerprint
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.errors import StoreError, UsageError, WeightsError
from medusa_core.model import costs
from medusa_core.model.devices import seeded
from medusa_core.names import some
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import commit, files, weights
from medusa_core.store.layout import Layout
from medusa_core.store.manifest import BackboneRecord
from medusa_core.store.records import sha256


def ensure(model: Path, progress: Progress) -> None:
    """Make a model folder from the bundled backbone, unless there is one, or one appears meanwhile.

    Raises:
        StoreError: something else is there, or it cannot be written.
    """
    if model.exists():
        return
    try:
        init(model, progress=progress)
    except StoreError:
        if not files.exists(Layout(model).model):
            raise
        return
    progress.message(f"Made {model} from the bundled universal backbone.")


@contextmanager
def as_ensured(model: Path) -> Iterator[Path]:
    """A model folder as it is, or one as `ensure` would make it, which is gone afterwards."""
    if model.exists():
        yield model
        return
    with tempfile.TemporaryDirectory() as parent:
        made = Path(parent) / "model"
        init(made)
        yield made


def init(
    model: str | Path = "medusa-model",
    *,
    backbone: str | None = None,
    weights: str | Path | None = None,
    pretrained: bool = False,
    from_scratch: bool = False,
    seed: int = 0,
    host: Host | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a model folder.

    Args:
        model: the folder, which must not exist or be empty.
        backbone: a timm model for images of any size with features at strides 4, 8, 16 and 32, or a
            plain ViT; None: the bundled universal backbone.
        weights: a safetensors file in timm's names.
        pretrained: timm's own weights, from where a plugin keeps them or else from the network.
        from_scratch: random weights from `seed`, to be trained by `medusa train-backbone`.
        seed: of random weights.
        host: asked for pretrained weights; None: the installed plugins.
        progress: told what is happening.

    Returns:
        The record of the backbone and the keys of the file that were left over.

    Raises:
        UsageError: not exactly one source of weights.
        UnknownNameError: timm has no such model.
        WeightsError: the weights are missing or do not fit.
        StoreError: the folder is in use or cannot be written.
    """
    progress = progress or SilentProgress()
    commit.require_free(model)
    sources = sum([weights is not None, pretrained, from_scratch])
    if backbone is None:
        if sources:
            raise UsageError(
                "Which backbone are these weights for?", hint="Name it: --backbone NAME"
            )
        return _init_bundled(Path(model))
    if sources != 1:
        raise UsageError(
            "Choose where the weights of the backbone come from.",
            hint="One of: --pretrained, --weights FILE.safetensors, --from-scratch",
        )
    description = timm_backbone.describe(backbone)
    with seeded("cpu", seed):
        net = timm_backbone.build(description)
        timm_backbone.require_any_size(net)
    left_over: list[str] = []
    provenance: dict[str, Any] = {"source": "from scratch", "seed": seed}
    if not from_scratch:
        path, source = _locate(backbone, weights, host, progress)
        left_over = pretrained_weights.load_weights(net, _read(path), str(path))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        provenance = {"source": source, "sha256": digest}
        if left_over:
            progress.message(
                f"{len(left_over)} keys of {path.name} are not part of the backbone: "
                f"{some(left_over)}"
            )
    record, data = record_of(net, {**provenance, "timm": timm.__version__})
    commit.create(model, record, data)
    if net.info.computed != net.info.strides:
        progress.message(
            f"Levels of {record.name} finer than stride {min(net.info.computed)} are its tokens, "
            "enlarged."
        )
    return report(Path(model), record, left_over)


def record_of(net: Backbone, provenance: dict[str, Any]) -> tuple[BackboneRecord, bytes]:
    """What `model.json` says about a backbone, and the bytes of its file."""
    data = weights.to_bytes(net.weights())
    description = net.description
    record = BackboneRecord(
        name=description.name,
        kwargs=dict(description.kwargs),
        out_indices=description.out_indices,
        channels=net.info.channels,
        strides=net.info.strides,
        mean=description.mean,
        std=description.std,
        weights_sha256=sha256(data),
        fingerprint=fingerprint(description.identity(), net.weights()),
        params=costs.parameters(net),
        gmacs=costs.backbone_gmacs(net),
        provenance=provenance,
    )
    return record, data


def report(model: Path, record: BackboneRecord, left_over: list[str]) -> dict[str, Any]:
    """What `init` returns."""
    return {
        "model": str(model),
        "backbone": record.model_dump(mode="json"),
        "left_over_keys": left_over,
    }


def _init_bundled(model: Path) -> dict[str, Any]:
    from medusa_core.workflows.bundled import bundled_backbone

    record, data = bundled_backbone()
    commit.create(model, record, data)
    return report(model, record, [])


def _locate(
    backbone: str, weights: str | Path | None, host: Host | None, progress: Progress
) -> tuple[Path, str]:
    """The file of weights, and what the record calls its source."""
    if weights is not None:
        return Path(weights), Path(weights).name
    request = WeightsRequest(backbone, pretrained_weights.hub_repository(backbone))
    found = (host or default_host()).locate_weights(request)
    if found is not None:
        path, provider = found
        progress.message(f"The weights of {backbone} are those of {provider}: {path}")
        return path, f"pretrained, from {provider}"
    progress.message(f"Fetching the pretrained weights of {backbone} …")
    return Path(pretrained_weights.download_pretrained(backbone)), "pretrained"


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "no such file"
        raise WeightsError(f"{path}: {what}.", hint="Weights are a safetensors file.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as err:
        raise WeightsError(
            f"{path}: not a safetensors file: {err}.",
            hint="Pickled weights (.pth, .bin) are not read: convert them to safetensors first.",
        ) from err
