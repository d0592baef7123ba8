"""Parts that head architectures are built from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHANNEL_BLOCK = 16
"""Processors, and libraries for matrices, compute so many channels at once."""
_LARGE = 8192
"""Pixels of a batch for which one more call of a Python function pays."""
_BLOCKS = 64
"""A multiple of the numbers that PyTorch's loops on any CPU take at once."""
_SHIFT = 16
"""Largest shift that is added to scores, in units of theirs."""
_VECTOR = 32
"""PyTorch's element-wise loops on a CPU are vectorised where so many numbers lie side by side."""


class Pointwise(nn.Conv2d):
    """A 1×1 convolution that trains in half the time on one thread of a CPU.

    PyTorch gives those of fewer than 16 images to a slower library then. Here they are a product of
    matrices: the same sums, other bits.

    parts: projections of several heads that this one is made of, for inference.
    """

    parts = 1

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, h, w)` → `(B, outputs, h, w)`."""
        if not (self.training and 1 < len(x) < 16 and x.device.type == "cpu"):
            return super().forward(x)
        if self.out_channels > 1 and self.out_channels % CHANNEL_BLOCK and _suits_onednn(x):
            projected: Tensor = _UnevenProjection.apply(x, self.weight, self.bias)
            return projected
        return _channels_first(F.linear(_channels_last(x), self.weight.flatten(1), self.bias))


class _UnevenProjection(torch.autograd.Function):
    """A 1×1 convolution to other than whole blocks of channels, as many classes are.

    Products of matrices take up to four times as long to these, but not their gradients: forwards
    it is oneDNN's (32 → 15 channels at 64×80, eight images, 1.9 → 0.7 ms; 40 channels 2.9 → 2.1).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.mkldnn_convolution(x, weight, bias, (0, 0), (1, 1), (1, 1), 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = _channels_last(gradient)
        read = _channels_first(rows @ weight.flatten(1)) if ctx.needs_input_grad[0] else None
        rows = rows.flatten(0, 2)
        products = rows.T @ _channels_last(x).flatten(0, 2)
        return read, products.view_as(weight), rows.sum(0) if ctx.needs_input_grad[2] else None


def _suits_onednn(maps: Tensor) -> bool:
    """Whether oneDNN can project them as they are, and that pays."""
    return (
        maps.dtype == torch.float32
        and maps.numel() >= _LARGE * maps.shape[1]
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )


def projection_of(weight: Tensor, bias: Tensor | None, parts: int = 1) -> Pointwise:
    """A projection for inference, with given parameters."""
    with torch.device("meta"):  # no random numbers are drawn
        projection = Pointwise(weight.shape[1], weight.shape[0], bias is not None)
    projection.weight = nn.Parameter(weight, requires_grad=False)
    projection.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    projection.parts = parts
    return projection.eval()


def _channels_last(maps: Tensor) -> Tensor:
    """`(B, C, h, w)` → `(B, h, w, C)`, a view."""
    return maps.permute(0, 2, 3, 1)


def _channels_first(maps: Tensor) -> Tensor:
    """`(B, h, w, C)` → `(B, C, h, w)`, a view."""
    return maps.permute(0, 3, 1, 2)


def conv_norm(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, same size, followed by batch normalisation."""
    convolution = (
        Pointwise(inputs, outputs, bias=False)
        if kernel == groups == 1
        else nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class Foldable(nn.Module):
    """A part with more to merge for inference than a BatchNorm behind its convolution."""

    @abstractmethod
    def fold_(self) -> None:
        """Merge it, in place: in evaluation mode, those BatchNorms gone, the same function."""


def start_at_zero(layer: nn.Module) -> None:
    """Give a layer the parameters 0, so that it adds nothing before it has learned something."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def resample(level: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resampling of `(B, C, h, w)` to `(B, C, *size)`; the input itself if it fits."""
    if level.shape[-2:] == torch.Size(size):
        return level
    return F.interpolate(level, size=tuple(size), mode="bilinear", align_corners=False)


def enlarged(level: Tensor, factor: int) -> Tensor:
    """`(B, C, h, w)` → `(B, C, h · factor, w · factor)`, bilinearly; itself for a factor of 1."""
    return resample(level, [side * factor for side in level.shape[-2:]])


class FeatureAttention(Foldable):
    """SFA: a learned mask over a learned projection, `sigmoid(A * X) ⊙ relu(V * X)`.

    The shared feature is what every task sees; the mask and projection are the task's own. `kind`
    says what the mask tells apart: "both" positions and channels, "spatial" positions only,
    "channel" channels only (from their means over the image), "none" nothing: no mask. What is
    projected is enlarged by `factor`, which equals projecting an enlarged feature.
    `(B, inputs, h, w)` → `(B, outputs, h · factor, w · factor)`.

    parts: attentions of several heads that this one is made of, for inference.
    """

    parts = 1

    def __init__(self, inputs: int, outputs: int, kind: str = "both", factor: int = 1) -> None:
        super().__init__()
        self.kind = kind
        self.factor = factor
        self.value = conv_norm(inputs, outputs)
        self.mask: nn.Module | None = None
        self.both: nn.Module | None = None
        if kind == "both":
            self.mask = conv_norm(inputs, outputs)
        elif kind == "spatial":
            self.mask = conv_norm(inputs, 1)
        elif kind == "channel":
            middle = max(8, inputs // 4)
            self.mask = nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(inputs, middle, 1),
                nn.ReLU(),
                nn.Conv2d(middle, outputs, 1),
            )

    def forward(self, feature: Tensor) -> Tensor:
        """Select from a shared feature what the task needs."""
        if self.both is not None:  # relu(V) · sigmoid(A) = relu(V · sigmoid(A))
            both = enlarged(self.both(feature), self.factor)
            return F.relu(_gated(both, self.parts), inplace=True)
        value = F.relu(self._enlarged(self.value, feature), inplace=True)
        if self.mask is None:
            return value
        whole = self.kind == "channel"  # without height and width
        mask = self.mask(feature) if whole else self._enlarged(self.mask, feature)
        return _sigmoid(mask, self.parts) * value

    def _enlarged(self, projection: Any, feature: Tensor) -> Tensor:
        """In training, a projection is normalised by the statistics of what it is enlarged to."""
        if self.factor == 1 or not self.training:
            return enlarged(projection(feature), self.factor)
        project, norm = projection
        normalised: Tensor = norm(enlarged(project(feature), self.factor))
        return normalised

    def fold_(self) -> None:
        """One projection for mask and value, where reading interleaved halves is not slower."""
        pair = [step for part in (self.value, self.mask) for step in _steps(part)]
        sizes = [step.out_channels if type(step) is Pointwise else 0 for step in pair]
        if len(sizes) == 2 and sizes[0] == sizes[1] >= _VECTOR * self.parts:
            self.both, self.value, self.mask = _paired(pair), nn.Sequential(), None


class Refinement(Foldable):
    """Residual refinement of one level by some 3×3 convolutions, full or separable ones.

    The residual starts at zero (its last normalisation has weight 0): a new head begins with the
    features as they are, which keeps the rare classes of small data sets.
    """

    def __init__(self, width: int, separable: bool, convolutions: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            if separable:
                layers += [conv_norm(width, width, 3, groups=width), nn.ReLU(inplace=True)]
            layers += [conv_norm(width, width, 1 if separable else 3), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        start_at_zero(list(self.layers.modules())[-1])

    def forward(self, feature: Tensor) -> Tensor:
        """`(B, width, h, w)` → the same shape."""
        return F.relu(self.layers(feature).add_(feature), inplace=True)

    def fold_(self) -> None:
        """One sequence of what is left."""
        self.layers = nn.Sequential(*_steps(self.layers))


class ScaleFusion(Foldable):
    """Levels at one resolution, one feature: MSA, or what it is compared with.

    "attention" is MSA, a softmax over the levels for every pixel:
    `G = Σ_s softmax_s(up(w_s · F_s)) ⊙ up(P_s F_s)`. "sum" leaves the softmax out; that is also
    what a 1×1 convolution of the concatenated levels computes. "concatenation" keeps all channels.
    Each level is projected before it is upsampled, which equals projecting after (both are linear)
    at a fraction of the cost. With attention, the last channel of a projection is the level's score
    `w_s · F_s`, and is weighted and summed as the others: what splits it off costs more than it.

    Attributes:
        outputs: channels of the result.
    """

    def __init__(self, inputs: Sequence[int], width: int, kind: str = "attention") -> None:
        super().__init__()
        self.kind = kind
        self.outputs = sum(inputs) if kind == "concatenation" else width
        self.project = nn.ModuleList(
            nn.Identity() if kind == "concatenation" else Pointwise(channels, width)
            for channels in inputs
        )
        self.one_by_one = False

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Levels, finest first → `(B, outputs, h_0, w_0)`."""
        size = features[0].shape[-2:]
        levels = [project(x) for project, x in zip(self.project, features, strict=True)]
        if not self.one_by_one:
            levels = [resample(level, size) for level in levels]
        if self.kind == "concatenation":
            return torch.cat(levels, dim=1)
        if self.kind == "sum":
            return sum(levels[1:], start=levels[0])
        return _WeightedSum.apply(*levels) if self.training else _weighted_sum(levels)[0]

    def fold_(self) -> None:
        """With attention, upsample a level when it is added: fewer maps are in use at once."""
        self.one_by_one = self.kind == "attention"

    def fold_norm(self, norm: Any, added: Pointwise | None, reader: Pointwise) -> bool:
        """Do what a normalisation of the result does in evaluation mode; whether that is possible.

        `added` is summed with the normalised result.

        Weights of the attention sum to 1, so every level can be scaled and shifted on its own. A
        shift that all scores share changes no weight, and what reads the result after a ReLU can
        scale them: `relu(a z + b + c) = a relu(z + b / a + c / a)`. Where that shift is large, so
        that rounding would take the last digits of the scores, it is not possible.
        """
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        if self.kind == "concatenation":
            return False
        if self.kind == "attention" and (scale[-1] <= 0 or shift[-1].abs() > _SHIFT * scale[-1]):
            return False
        if self.kind == "attention":
            reader.weight[:, -1] *= scale[-1]
            if added is not None:
                added.weight[-1] /= scale[-1]
            shift[-1] /= scale[-1]
            scale[-1] = 1
        projections: list[Any] = list(self.project)
        for index, project in enumerate(projections):
            project.weight *= scale[:, None, None, None]
            project.bias *= scale
            if self.kind == "attention" or index == 0:
                project.bias += shift
        return True


def _steps(sequence: nn.Module | None) -> list[nn.Module]:
    """The modules that a sequence of sequences runs, without those that do nothing."""
    if isinstance(sequence, nn.Sequential):
        return [step for part in sequence for step in _steps(part)]
    return [] if sequence is None or isinstance(sequence, nn.Identity) else [sequence]


def _gated(pairs: Tensor, parts: int) -> Tensor:
    """Gated linear units of every part, with the bits that it has on its own.

    The last bits of an exponential depend on where a loop ends. Here it does after every row of
    channels; with several threads also where these share the work, elsewhere for all parts than
    for one.
    """
    if parts == 1:
        return F.glu(pairs, dim=1)
    if torch.get_num_threads() == 1:
        return F.glu(pairs.unflatten(1, (parts, -1)), dim=2).flatten(1, 2)
    batch, channels, height, width = pairs.shape
    rows = pairs.new_empty(batch, height, width, channels // 2)
    result = _channels_first(rows)
    for pair, given in zip(pairs.chunk(parts, 1), result.chunk(parts, 1), strict=True):
        torch.ops.aten.glu.out(pair, 1, out=given)
    return result


def _sigmoid(masks: Tensor, parts: int) -> Tensor:
    """Sigmoids of every part, with the bits that it has on its own; as `_gated`, in one loop."""
    whole = masks.numel() // parts % _BLOCKS == 0
    if parts == 1 or (whole and torch.get_num_threads() == 1):
        return torch.sigmoid_(masks)
    own = (part.contiguous(memory_format=torch.channels_last) for part in masks.chunk(parts, 1))
    return torch.cat([torch.sigmoid_(part) for part in own], dim=1)


def _paired(projections: Sequence[Any]) -> Pointwise:
    """One projection to the outputs of two that read the same: part for part, side by side."""
    parts = projections[0].parts

    def both(tensors: list[Tensor]) -> Tensor:
        return torch.cat([half.unflatten(0, (parts, -1)) for half in tensors], dim=1).flatten(0, 1)

    weight = both([half.weight for half in projections])
    return projection_of(weight, both([half.bias for half in projections]), parts)


def _weighted_sum(levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sum of maps `(B, C, h, w)`, weighted by a softmax over their last channels.

    Those after the first may be smaller: they are upsampled when they are added.

    One level at a time: stacked, they are several times dearer than the rest of the head.

    Returns:
        The sum `(B, C, h, w)`, and the weights `(B, levels, h, w)`.
    """
    size = levels[0].shape[-2:]
    scores = [resample(level[:, -1:], size) for level in levels]
    weights = torch.cat(scores, dim=1).softmax(dim=1)
    first, *others = weights.unsqueeze(2).unbind(dim=1)
    total = levels[0] * first
    for level, weight in zip(levels[1:], others, strict=True):
        total.addcmul_(resample(level, size), weight)
    return total, weights


class _WeightedSum(torch.autograd.Function):
    """`_weighted_sum` with a gradient in as few passes over memory as it needs.

    On a CPU it is taken image by image: the products, in one place, stay in the cache then, and so
    does the image's own gradient (3 % less of a step of a head with 2 MB of it, the same bits).
    """

    @staticmethod
    def forward(ctx: Any, *levels: Tensor) -> Tensor:
        total, weights = _weighted_sum(levels)
        ctx.save_for_backward(weights, *levels)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        weights, *levels = ctx.saved_tensors
        gradients = [torch.empty_like(level) for level in levels]
        images = 1 if gradient.device.type == "cpu" else len(gradient)
        scratch = torch.empty_like(gradient[:images])
        for start in range(0, len(gradient), images):
            part = slice(start, start + images)
            whole, shares = gradient[part], weights[part]
            products = torch.stack(
                [torch.mul(whole, level[part], out=scratch).sum(dim=1) for level in levels], dim=1
            )
            products -= (shares * products).sum(dim=1, keepdim=True)
            products *= shares
            for found, share, score in zip(
                gradients, shares.unsqueeze(2).unbind(dim=1), products.unbind(dim=1), strict=True
            ):
                own = torch.mul(whole, share, out=found[part])
                own[:, -1] += score
        return tuple(gradients)
