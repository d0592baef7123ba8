"""BatchNorm layers that were folded into the weights, made trainable again.

Published weights may come with their BatchNorm folded: running mean 0 and variance 1, the scale in
the affine weights. In evaluation mode that is the same network; in training mode batch statistics
take the place of 0 and 1, which destroys it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from medusa_core.backbones.timm_backbone import Backbone


def has_folded_norms(backbone: nn.Module) -> bool:
    """Whether trained BatchNorm layers were folded: mean 0 and variance 1 with other weights.

    Weights of 1 and 0 are those that a fresh network starts with.
    """
    norms = _norms(backbone)
    return (
        bool(norms)
        and all(
            not mean.any() and bool((variance == 1).all())
            for mean, variance in map(_statistics, norms)
        )
        and any(not bool(((norm.weight == 1) | (norm.weight == 0)).all()) for norm in norms)
    )


@torch.no_grad()
def unfold_norms(backbone: Backbone, batches: Iterable[Tensor]) -> int:
    """Give BatchNorm layers the statistics of real images, without changing what they compute.

    In front of each layer the mean m and (biased) variance v of every channel are measured. With
    slope g = weight / √(running_var + eps) and shift = bias − running_mean · g of the old values,
    the new ones are running_mean = m, running_var = v, weight = g · √(v + eps) and
    bias = shift + g · m. Since no layer's function changes, one pass measures all of them exactly.
    Afterwards evaluation mode computes what it did (to rounding), and so does training mode, as far
    as the statistics of a batch are those measured. Works for norms that are not folded, too.

    Args:
        backbone: changed in place; its mode is left as it was.
        batches: `(B, 3, H, W) float32` images in [0, 1], H and W multiples of the stride; typical
            of the training. Where there are none, nothing is changed.

    Returns:
        Number of layers that were given statistics; layers no image passes through are left alone.
    """
    norms = _norms(backbone)
    found = {norm: _Moments() for norm in norms}
    hooks = [
        norm.register_forward_pre_hook(lambda module, inputs: found[module].add(inputs[0]))
        for norm in norms
    ]
    was_training = backbone.training
    backbone.eval()
    try:
        for images in batches:
            backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
        backbone.train(was_training)
    measured = [norm for norm in norms if found[norm].count]
    for norm in measured:
        _set_statistics(norm, *found[norm].result())
    return len(measured)


class _Moments:
    """Sum and sum of squares of every channel, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.total = self.squares = torch.zeros(())

    def add(self, inputs: Tensor) -> None:
        values = inputs.detach().double()
        self.count += values.numel() // values.shape[1]
        self.total = self.total.to(values.device) + values.sum(dim=(0, 2, 3))
        self.squares = self.squares.to(values.device) + values.square().sum(dim=(0, 2, 3))

    def result(self) -> tuple[Tensor, Tensor]:
        mean = self.total / self.count
        return mean, (self.squares / self.count - mean.square()).clamp_min(0)


def _set_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    old_mean, old_variance = _statistics(norm)
    slope = norm.weight.double() / (old_variance.double() + norm.eps).sqrt()
    shift = norm.bias.double() - old_mean.double() * slope
    old_mean.copy_(mean)
    old_variance.copy_(variance)
    norm.weight.copy_(slope * (variance + norm.eps).sqrt())
    norm.bias.copy_(shift + slope * mean)


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance; `_norms` gives only layers that have them."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a BatchNorm layer without statistics")
    return norm.running_mean, norm.running_var


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """BatchNorm layers with statistics and weights."""
    return [
        m
        for m in module.modules()
        if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and m.weight is not None
    ]
