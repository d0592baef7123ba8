"""Parts of several heads as one part: their channels side by side, fewer and longer operations."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from medusa_core.heads.blocks import FeatureAttention, Pointwise, Refinement

_MADE_OF_OTHERS = (nn.Sequential, FeatureAttention, Refinement)
_WITHOUT_CHANNELS = (nn.ReLU, nn.Identity)


def has_hooks(module: nn.Module) -> bool:
    """Whether calling a module does more than its `forward`."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def side_by_side(parts: Sequence[nn.Module], shared: bool = False) -> nn.Module:
    """One part that does what several do in evaluation mode, each to channels of its own.

    Args:
        parts: of one make; not changed.
        shared: all read the same `(B, C, h, w)`, not each its C channels of `(B, N · C, h, w)`.

    Returns:
        It gives `(B, N · outputs, h, w)`, those of the first part first.

    Raises:
        ValueError: the parts are not of one make, or of one that channels cannot be added to.
    """
    make = type(parts[0])
    if any(type(part) is not make for part in parts) or any(map(has_hooks, parts)):
        raise ValueError("parts of different makes, or hooked")
    if make in _WITHOUT_CHANNELS:
        return copy.copy(parts[0])
    if make in _MADE_OF_OTHERS:
        return _composed(parts, shared)
    if make in (nn.Conv2d, Pointwise):
        return _convolution(parts, shared)
    if make is nn.BatchNorm2d:
        return _norm(parts)
    raise ValueError(f"{make.__name__} cannot be given more channels")


def _composed(parts: Sequence[Any], shared: bool) -> nn.Module:
    if isinstance(parts[0], FeatureAttention) and parts[0].kind == "spatial":
        raise ValueError("a mask of one channel would be that of all parts")
    names = [name for name, _ in parts[0].named_children()]
    if any([name for name, _ in part.named_children()] != names for part in parts):
        raise ValueError("parts with other parts")
    in_turn = isinstance(parts[0], nn.Sequential)
    joined = copy.copy(parts[0])
    joined._modules = {}
    if isinstance(joined, FeatureAttention):
        joined.parts = len(parts)
    for index, name in enumerate(names):
        children = [part.get_submodule(name) for part in parts]
        joined._modules[name] = side_by_side(children, shared and not (in_turn and index))
    return joined


def _convolution(parts: Sequence[Any], shared: bool) -> nn.Module:
    joined = copy.copy(parts[0])
    if any(_geometry(part) != _geometry(joined) for part in parts) or (
        shared and joined.groups > 1
    ):
        raise ValueError("convolutions that do not fit together")
    joined.out_channels *= len(parts)
    if isinstance(joined, Pointwise):
        joined.parts = len(parts)
    if not shared:
        joined.in_channels *= len(parts)
        joined.groups *= len(parts)
    return _with_numbers(joined, parts)


def _geometry(conv: Any) -> tuple[object, ...]:
    placing = conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode
    return (conv.weight.shape, conv.bias is None, *placing)


def _norm(parts: Sequence[Any]) -> nn.Module:
    joined = copy.copy(parts[0])
    makes = {(part.eps, part.affine, part.running_var is None) for part in parts}
    if len(makes) > 1:
        raise ValueError("normalisations that do not fit together")
    joined.num_features *= len(parts)
    return _with_numbers(joined, parts)


def _with_numbers(joined: nn.Module, parts: Sequence[nn.Module]) -> nn.Module:
    """Parameters and statistics of all, one after the other."""
    parameters = {name: _all_of(name, parts) for name in joined._parameters}
    buffers = {name: _all_of(name, parts) for name in joined._buffers}
    joined._parameters = {
        name: None if value is None else nn.Parameter(value, requires_grad=False)
        for name, value in parameters.items()
    }
    joined._buffers = buffers
    return joined


@torch.no_grad()
def _all_of(name: str, parts: Sequence[nn.Module]) -> Any:
    own = [getattr(part, name) for part in parts]
    return torch.cat(own) if own[0] is not None and own[0].dim() else own[0]
