"""Networks prepared for inference: the same function in fewer and cheaper steps.

A prepared network is a copy; the one it was made from stays as it is, and remains the reference.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from medusa_core.heads.blocks import Foldable, Pointwise
from medusa_core.heads.side_by_side import has_hooks

_M_MXFAST, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = 1, -1, -3
_KEPT_BYTES = 1 << 30
_TRACING = threading.Lock()
"""One at a time: `torch.fx` puts back what it found when it is done."""


def prepare(network: nn.Module, pack: bool = True) -> nn.Module:
    """A copy of a network in evaluation mode: BatchNorm folded, convolutions packed.

    What cannot be analysed is left as it is, so any network may be given. The function stays the
    same up to rounding; gradients are not computed.

    Args:
        network: plain; not changed.
        pack: bring the weights of convolutions into the layout of the CPU's library.
    """
    fast = copy.deepcopy(network).eval().requires_grad_(False)
    for convolution, norm in list(_foldable(fast)):
        _fold(fast, convolution, norm)
    for module in list(fast.modules()):
        if isinstance(module, Foldable):
            module.fold_()
    if pack and _on_cpu(fast) and torch.backends.mkldnn.is_available():
        _pack(fast)
    return fast


def keep_memory() -> None:
    """Have glibc keep freed memory for the next image or step instead of returning it each time.

    Otherwise every large intermediate result is mapped and cleared anew. Small pieces, of which
    oneDNN takes many a call, are merged when they are freed, not all at once when a large one is.
    Nothing elsewhere.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
            mallopt(_M_MXFAST, 0)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether networks run in bfloat16 there; on a CPU, by the library that makes it pay."""
    if device.type == "cpu":
        mkldnn = torch.backends.mkldnn.is_available()
        return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if device.type != "cuda":
        return True
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported()


@functools.cache
def _operator(name: str) -> Any:
    """An operator of oneDNN, when it is needed: not every build of torch has them."""
    return getattr(torch.ops.mkldnn, name).default


@functools.cache
def _small_product() -> int:
    """Multiplications up to which the call of oneDNN costs more than what it is faster by."""
    return 1 << 23 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 1 << 22


def _describe(packed: nn.Module, plain: nn.Module) -> None:
    """Copy what code may ask of a layer beside calling it: its sizes, strides, and the like."""
    asked = {name: value for name, value in vars(plain).items() if not name.startswith("_")}
    vars(packed).update(asked)


class _Packed(nn.Module):
    """A layer that keeps its weights twice: as they are, and as the CPU's library wants them."""

    _packed: Any = None

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """As in `nn.Module`: weights change their format, so they are packed anew."""
        self._packed = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, object]:
        """Without the packed weights, which cannot be copied."""
        return {**self.__dict__, "_packed": None}


class PackedConv2d(_Packed):
    """A convolution whose weights lie as the CPU's library wants them for the two shapes last seen.

    PyTorch otherwise rearranges them at every call. Which layout is best depends on the shape of
    the input; another can be many times slower.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            plain.weight.detach().contiguous(memory_format=torch.channels_last),
            requires_grad=False,
        )
        self.bias = plain.bias
        _describe(self, plain)
        self.geometry = (
            _pair(plain.padding),
            _pair(plain.stride),
            _pair(plain.dilation),
            plain.groups,
        )
        self._packed: dict[torch.Size, tuple[Tensor, Tensor | None]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` → `(B, outputs, h, w)` in the number format of the weights."""
        weight, bias = (self._packed or {}).get(x.shape) or self._pack(x.shape)
        if x.dtype is not weight.dtype:
            x = x.to(weight.dtype)
        result: Tensor = _operator("_convolution_pointwise")(
            x, weight, bias, *self.geometry, "none", [], ""
        )
        return result

    def _pack(self, shape: torch.Size) -> tuple[Tensor, Tensor | None]:
        """Weights for a shape; the ones before are kept, too: pictures are wide or high."""
        reorder = torch.ops.mkldnn._reorder_convolution_weight
        packed = reorder(self.weight, *self.geometry, list(shape)), self.bias
        before = list((self._packed or {}).items())[-1:]  # another thread may add one, too
        self._packed = {**dict(before), shape: packed}
        return packed

    __call__ = forward  # nobody hooks it


class PackedLinear(_Packed):
    """A matrix product whose weights lie as the CPU's library wants them, for every shape.

    PyTorch gives products of one thread to a slower library, but one that is called for a tenth:
    small products are given to that, too.
    """

    def __init__(self, plain: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        _describe(self, plain)
        self._packed: tuple[torch.dtype, Tensor, Tensor, Tensor | None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(..., inputs)` → `(..., outputs)` in the number format of the weights."""
        if self._packed is None:
            plain = self.weight.detach().flatten(1).contiguous()
            packed = torch.ops.mkldnn._reorder_linear_weight(plain, None)
            self._packed = (plain.dtype, plain, packed, self.bias)
        dtype, plain, packed, bias = self._packed
        if x.dtype is not dtype:
            x = x.to(dtype)
        if dtype is torch.float32 and x.numel() * len(plain) <= _small_product():
            return F.linear(x, plain, bias)
        product = _operator("_linear_pointwise")
        result: Tensor = product(x.contiguous(), packed, bias, "none", [], "")
        return result

    __call__ = forward  # nobody hooks it


class PackedPointwise(PackedLinear):
    """A 1×1 convolution as a matrix product.

    Calling the library costs half of what it does for a convolution, and one layout of weights
    suits every shape.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` → `(B, outputs, h, w)` in the number format of the weights."""
        return _maps(super().forward(_rows(x)), x)

    __call__ = forward  # nobody hooks it


class PackedProduct(nn.Module):
    """A 1×1 convolution to one channel as the product of a matrix and a vector."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        _describe(self, plain)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` → `(B, 1, h, w)` in the number format of the weights."""
        x = x.to(self.weight.dtype)
        if x.dtype is not torch.float32:
            return F.conv2d(x, self.weight, self.bias)
        product = torch.mv(_rows(x), self.weight.flatten())
        if self.bias is not None:
            product += self.bias
        return product.view(len(x), 1, *x.shape[2:])

    __call__ = forward


class PackedParts(nn.Module):
    """Projections of several heads, side by side, as one product each: those that one head has."""

    def __init__(self, plain: Pointwise) -> None:
        super().__init__()
        self.weight, self.bias, self.groups = plain.weight, plain.bias, plain.groups
        self.parts = plain.parts

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` → `(B, outputs, h, w)` in the number format of the weights."""
        x = x.to(self.weight.dtype)
        if x.dtype is not torch.float32:
            return F.conv2d(x, self.weight, self.bias, groups=self.groups)
        rows = _rows(x)
        result = rows.new_empty(len(rows), len(self.weight))
        if self.bias is not None:
            result.copy_(self.bias)
        read = rows.chunk(self.groups, 1) if self.groups > 1 else [rows] * self.parts
        weights = self.weight.flatten(1).chunk(self.parts)
        for own, weight, given in zip(read, weights, result.chunk(self.parts, 1), strict=True):
            given.addmm_(own, weight.t(), beta=0 if self.bias is None else 1)
        return _maps(result, x)

    __call__ = forward


class Chain(nn.Sequential):
    """A sequence whose modules have no hooks: they need not be called, just run."""

    def forward(self, x: Any) -> Any:
        """One after the other, without those that do nothing."""
        for module in self._modules.values():
            if type(module) is not nn.Identity:
                x = module.forward(x)
        return x


class _Tracer(fx.Tracer):
    """Stops at convolutions and normalisations of any kind, sub-classes included.

    While it traces, `torch.fx` hears the modules of all threads: those of others are let through.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or super().is_leaf_module(
            m, module_qualified_name
        )


def _foldable(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names of (convolution, BatchNorm) where the one feeds the other and nothing else.

    A module whose Python code cannot be traced is searched part by part.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return
    try:
        with _TRACING:
            graph = _Tracer().trace(network)
    except Exception:  # noqa: BLE001 - anybody's forward; tracing may fail in any way
        for name, child in network.named_children():
            yield from _foldable(child, f"{prefix}{name}.")
        return
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(modules[node.target] for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or len(before.users) != 1:
            continue
        conv, norm = modules[before.target], modules[node.target]
        if calls[conv] == calls[norm] == 1 and _is_plain(conv) and norm.running_var is not None:
            yield prefix + before.target, prefix + node.target


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a convolution and nothing more: no hook, no foreign sub-class."""
    return (
        type(module) in (nn.Conv2d, Pointwise)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and not has_hooks(module)
    )


def _is_pointwise(conv: Any) -> bool:
    ones = (*conv.kernel_size, *conv.stride, conv.groups)
    return set(ones) == {1} and not any(_pair(conv.padding))


def _fold(network: nn.Module, convolution: str, norm: str) -> None:
    conv: Any = network.get_submodule(convolution)
    bn: Any = network.get_submodule(norm)
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    _replace(network, norm, getattr(bn, "act", nn.Identity()))  # timm's BatchNorm may activate


def _pack(network: nn.Module) -> None:
    for name, module in list(network.named_modules()):
        if name and _is_plain(module):
            _replace(network, name, _packed(module))
        elif name and type(module) is nn.Linear and not has_hooks(module):
            _replace(network, name, PackedLinear(module))
    for module in network.modules():
        if type(module) is nn.Sequential and not any(has_hooks(child) for child in module):
            module.__class__ = Chain


def _packed(conv: nn.Conv2d) -> nn.Module:
    if type(conv) is Pointwise and conv.parts > 1:
        return PackedParts(conv)
    if not _is_pointwise(conv):
        return PackedConv2d(conv)
    return PackedProduct(conv) if conv.out_channels == 1 else PackedPointwise(conv)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)


def _rows(x: Tensor) -> Tensor:
    """`(B, C, h, w)` → `(B · h · w, C)`: a view of channels-last maps, or of some channels."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """The other way round, a view: batch and size are those of `like`."""
    return rows.view(len(like), *like.shape[2:], rows.shape[1]).permute(0, 3, 1, 2)


def _on_cpu(network: nn.Module) -> bool:
    return all(p.device.type == "cpu" for p in network.parameters())


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
