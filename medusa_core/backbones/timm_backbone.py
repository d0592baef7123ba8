"""Any timm model as a frozen, multi-scale feature extractor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medusa_core.api import FeatureInfo
from medusa_core.backbones.limit import not_larger
from medusa_core.errors import UnknownNameError, UsageError, WeightsError

LEVEL_STRIDES = (4, 8, 16, 32)
TOKEN = 16
"""Pixels of an image that a token of a plain ViT stands for, whatever its patches are."""
KWARGS_ALLOWED = {"feature_location", "dynamic_img_size", "strict_img_size"}
_DRY_RUN = (128, 128)
_ANOTHER_SIZE = (224, 416)  # larger than many models are trained on, odd multiples of 32
_ANY_SIZE: dict[str, dict[str, bool]] = {
    "vision_transformer": {"dynamic_img_size": True},
    "eva": {"dynamic_img_size": True},
    "deit": {"dynamic_img_size": True},
    "swin_transformer": {"strict_img_size": False},
    "swin_transformer_v2": {"strict_img_size": False},
    "swin_transformer_v2_cr": {"strict_img_size": False},
}
"""What lets transformers read images of any size, by their module in timm. Not so beit, whose
positions have one size."""


@dataclass(frozen=True)
class BackboneDescription:
    """What rebuilds a backbone without its weights. `kwargs` go to `timm.create_model`."""

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    out_indices: tuple[int, ...] = ()
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def identity(self) -> dict[str, Any]:
        """The part of the fingerprint that is not weights."""
        return {
            "name": self.name,
            "kwargs": dict(self.kwargs),
            "out_indices": list(self.out_indices),
            "mean": list(self.mean),
            "std": list(self.std),
            "input_range": [0.0, 1.0],
        }


class Backbone(nn.Module):
    """Feature levels at strides 4, 8, 16 and 32 of an image in [0, 1].

    A frozen backbone has no gradients and stays in evaluation mode whatever `.train()` is called
    on it or around it, so neither weights nor BatchNorm statistics can move.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, description: BackboneDescription, net: nn.Module) -> None:
        super().__init__()
        self.description = description
        self.net = net
        self.frozen = False
        patch = set(net.feature_info.reduction())  # type: ignore[union-attr, operator]
        self.patch = patch.pop() if len(patch) == 1 else None
        self.channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
        self.register_buffer("mean", _channelwise(description.mean), persistent=False)
        self.register_buffer("std", _channelwise(description.std), persistent=False)
        self._apply(_channels_last)
        self.info = _measure(self)

    def freeze(self) -> Backbone:
        """Fix weights and buffers for good."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """As `nn.Module.train`, but a frozen backbone stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    @property
    def computed(self) -> tuple[int, ...]:
        """Strides at which the levels are computed; see `FeatureInfo`."""
        finest = 1 if self.patch is None else TOKEN
        return tuple(max(stride, finest) for stride in LEVEL_STRIDES)

    @property
    def stride(self) -> int:
        """Inputs must be multiples of this."""
        return max(LEVEL_STRIDES)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature levels as they are computed, finest first. See `Head.given`.

        Args:
            images: `(B, 3, H, W) float32` in [0, 1], H and W multiples of `stride`.

        Returns:
            `(B, channels[i], H / computed[i], W / computed[i])` for each level of `info`.
        """
        x = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        if self.patch is not None:
            return _token_levels(self.net, x, self.patch)
        levels = list(self.net(x))
        return [level.permute(0, 3, 1, 2) for level in levels] if self.channels_last else levels

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers under timm's names."""
        return self.net.state_dict()


def pad_to_stride(images: Tensor, stride: int, fill: Tensor) -> Tensor:
    """Pad `(B, C, H, W)` at the right and bottom to multiples of `stride` with a colour `fill`."""
    height, width = images.shape[-2:]
    below, right = -height % stride, -width % stride
    if not below and not right:
        return images
    padded = fill.to(images).expand(images.shape[0], -1, height + below, width + right).clone()
    padded[..., :height, :width] = images
    return padded


def describe(name: str) -> BackboneDescription:
    """How `medusa init --backbone NAME` builds a timm model.

    Raises:
        UnknownNameError: timm has no such model.
        UsageError: the model cannot give four feature levels.
    """
    check_name(name)
    architecture = name.partition(".")[0]
    module = timm.models.model_entrypoint(architecture).__module__
    kwargs: dict[str, Any] = dict(_ANY_SIZE.get(module.rpartition(".")[2], {}))
    if architecture.startswith("hrnet"):
        kwargs["feature_location"] = ""
    try:
        net = timm.create_model(name, pretrained=False, features_only=True, **kwargs)
    except Exception as err:
        raise UsageError(
            f"Backbone {name!r} does not expose features: {err}",
            hint="Choose a model that timm can build with features_only=True.",
        ) from err
    config = getattr(net, "pretrained_cfg", None)
    if not config:
        known = timm.get_pretrained_cfg(name)
        config = known.to_dict() if known else {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    return BackboneDescription(
        name=name,
        kwargs=kwargs,
        out_indices=_choose_levels(name, net),
        mean=_three(config["mean"]),
        std=_three(config["std"]),
    )


def build(description: BackboneDescription, values: int | None = None) -> Backbone:
    """The described backbone with random weights (global torch generator).

    Args:
        description: may come from a file of a stranger.
        values: how many numbers there are to fill it with; None: it may be of any size.

    Raises:
        UsageError: timm cannot build it, or it does not give the features of a backbone.
        WeightsError: it is by far larger than what there is to fill it with.
    """
    check_name(description.name)
    unknown = set(description.kwargs) - KWARGS_ALLOWED
    if unknown:
        raise UsageError(f"Backbone options not allowed: {', '.join(sorted(unknown))}.")
    try:
        with not_larger(description.name, values):
            net = timm.create_model(
                description.name,
                pretrained=False,
                features_only=True,
                out_indices=tuple(description.out_indices),
                **dict(description.kwargs),
            )
    except WeightsError:
        raise
    except Exception as err:
        raise UsageError(
            f"timm {timm.__version__} cannot build backbone {description.name!r} with levels "
            f"{tuple(description.out_indices)} and options {dict(description.kwargs)}: {err}"
        ) from err
    return Backbone(description, net)


def check_name(name: str) -> None:
    """Refuse what timm does not know (and names that would make timm fetch something)."""
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnknownNameError(
            "backbone",
            name,
            timm.list_models(),
            hint="Names are those of timm, for example mobilenetv2_100, resnet18, convnext_atto.",
        )
    if dot and not (tag and _has_tag(name)):
        raise UnknownNameError(
            "backbone", name, [architecture, *timm.list_pretrained(f"{architecture}.*")]
        )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _has_tag(name: str) -> bool:
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False) is not None
    except RuntimeError:
        return False


def _channels_last(tensor: Tensor) -> Tensor:
    """In that order where it has four axes; `nn.Module.to` stops at those that have five."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _channelwise(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


def _choose_levels(name: str, net: nn.Module) -> tuple[int, ...]:
    """Indices of the last features at strides 4…32, or four depths of a single-scale network."""
    info = net.feature_info  # the reductions timm reports; verified later by a dry run
    reductions = list(info.reduction())  # type: ignore[union-attr, operator]
    indices = list(info.out_indices)  # type: ignore[union-attr, arg-type]
    if len(set(reductions)) == 1:
        depth = max(indices) + 1
        if depth < len(LEVEL_STRIDES):
            raise UsageError(f"Backbone {name!r} has only {depth} blocks; 4 are needed.")
        return tuple(depth * (i + 1) // 4 - 1 for i in range(4))
    by_stride = dict(zip(reductions, indices, strict=True))
    missing = [stride for stride in LEVEL_STRIDES if stride not in by_stride]
    if missing:
        raise UsageError(
            f"Backbone {name!r} has features at strides {sorted(set(reductions))}; "
            f"strides {', '.join(map(str, LEVEL_STRIDES))} are needed."
        )
    return tuple(by_stride[stride] for stride in LEVEL_STRIDES)


def _token_levels(net: nn.Module, x: Tensor, patch: int) -> list[Tensor]:
    """Parameter-free pyramid of a plain ViT: four depths, those of coarse strides averaged.

    The image is scaled by patch / 16 first, so that one token covers 16 pixels of the original.
    Levels of finer strides are the tokens, upsampled; that is left to whoever reads them.
    """
    if patch != TOKEN:
        size = [side * patch // TOKEN for side in x.shape[-2:]]
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
    levels = []
    for tokens, stride in zip(net(x), LEVEL_STRIDES, strict=True):
        level = tokens if stride <= TOKEN else F.avg_pool2d(tokens, stride // TOKEN)
        levels.append(level.contiguous(memory_format=torch.channels_last))
    return levels


def require_any_size(backbone: Backbone) -> None:
    """Refuse a network that reads images up to some size only, as some with tables of positions do.

    Raises:
        UsageError: it fails on an image larger than the one it was measured with.
    """
    _dry_run(backbone, _ANOTHER_SIZE)


def _measure(backbone: Backbone) -> FeatureInfo:
    """Channels and strides seen in a dry run, checked against what timm reports."""
    name = backbone.description.name
    levels = _dry_run(backbone, _DRY_RUN)
    channels = tuple(level.shape[1] for level in levels)
    reported = tuple(backbone.net.feature_info.channels())  # type: ignore[union-attr, operator]
    if channels != reported:
        raise UsageError(f"Backbone {name!r} reports channels {reported} but gives {channels}.")
    if not all(math.isfinite(float(level.sum())) for level in levels):
        raise UsageError(f"Backbone {name!r} gives features that are not finite.")
    return FeatureInfo(channels=channels, strides=LEVEL_STRIDES, computed=backbone.computed)


def _dry_run(backbone: Backbone, size: tuple[int, int]) -> list[Tensor]:
    """What a backbone makes of a black image of a size (H, W): four levels at the right strides."""
    name, (height, width) = backbone.description.name, size
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            levels = backbone(torch.zeros(1, 3, height, width))
    except Exception as err:
        raise UsageError(
            f"Backbone {name!r} fails on a {height}×{width} image: "
            f"{str(err) or type(err).__name__}",
            hint="Models of a fixed input size cannot be used.",
        ) from err
    finally:
        backbone.train(was_training)
    shapes = [tuple(level.shape) for level in levels]
    wanted = [(height // stride, width // stride) for stride in backbone.computed]
    if [(len(shape), shape[2:]) for shape in shapes] != [(4, one) for one in wanted]:
        raise UsageError(
            f"Backbone {name!r} does not give strides {', '.join(map(str, LEVEL_STRIDES))}: of a "
            f"{height}×{width} image it makes {shapes}."
        )
    return levels
