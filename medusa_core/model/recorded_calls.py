"""Operations of a network, heard once, and done again on tensors that lie where they lay.

Results are written into scratch memory, at places that are planned: no two that are in use at once
overlap. Operations that cannot write to a given place, such as oneDNN's, give new tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Network = Callable[[Sequence[Tensor]], list[Tensor]]
"""Tensors in, tensors out: an image to feature levels, feature levels to one prediction."""
_ALIGNMENT = 64
_aten, _nn = torch.ops.aten, torch._C._nn
_FUNCTIONS = {
    _aten._softmax.out: torch._softmax,
    _aten.add.out: torch.add,
    _aten.addmm.out: torch.addmm,
    _aten.cat.out: torch.cat,
    _aten.glu.out: _nn.glu,
    _aten.mm.out: torch.mm,
    _aten.mul.out: torch.mul,
    _aten.mv.out: torch.mv,
    _aten.upsample_bilinear2d.out: _nn.upsample_bilinear2d,
}
"""PyTorch's functions that do the same and are called in half of the time."""
_WITHOUT_NUMBERS = {_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty}
_UNREPEATABLE = {
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
}


class Listener(TorchDispatchMode):
    """Hears every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append(Call(func, args, kwargs or {}, result))
        return result


@dataclass(frozen=True)
class Call:
    """An operation as it was called, and what it gave: tensors, or where these will be."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    def changed(self, change: Callable[[Any], Any]) -> Call:
        """The same with other tensors."""
        kwargs = {name: _each(value, change) for name, value in self.kwargs.items()}
        return Call(self.operation, _each(self.args, change), kwargs, _each(self.result, change))

    def given(self) -> list[Tensor]:
        """Tensors that it is called with."""
        return _tensors([self.args, *self.kwargs.values()])

    def written(self) -> list[Tensor]:
        """Those of them that it writes to."""
        arguments = self.operation._schema.arguments
        names = (a.name for a in arguments)  # more than given: the others have their defaults
        named = dict(zip(names, self.args, strict=False)) | self.kwargs
        written = [a.name for a in arguments if a.alias_info and a.alias_info.is_write]
        return _tensors([named.get(name) for name in written])


@dataclass(frozen=True)
class _Place:
    """A tensor in scratch memory."""

    byte: int
    offset: int
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]

    def on(self, scratch: Tensor) -> Tensor:
        start = self.byte // self.dtype.itemsize + self.offset
        whole = torch.empty(0, dtype=self.dtype)
        return whole.set_(scratch.untyped_storage(), start, self.shape, self.stride)


@dataclass(frozen=True)
class _Part:
    """A view of a tensor that is new in every run."""

    storage: int
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]

    def of(self, new: Mapping[int, Tensor]) -> Tensor:
        return new[self.storage].as_strided(self.shape, self.stride, self.offset)


@dataclass
class _Life:
    """Memory of a tensor: the call that makes it, the last one that uses it, its bytes, its format.

    anew: whether the operation that makes it takes it from anywhere.
    """

    start: int
    end: int
    size: int
    dtype: torch.dtype = torch.float32
    anew: bool = False


class Recording:
    """Operations of one run on tensors that stay where they are.

    Attributes:
        size: bytes of scratch memory that it needs.
    """

    def __init__(
        self, calls: Sequence[Call], results: Sequence[Any], lives: Mapping[int, _Life], size: int
    ) -> None:
        self.size = size
        self._calls, self._results, self._lives = calls, results, lives
        self._scratch: Tensor | None = None
        self._new: dict[int, Tensor] = {}
        self._steps: list[Callable[[], object]] = []
        self._outputs: list[Any] = []

    def run(self, scratch: Tensor) -> list[Tensor]:
        """What the network gives, copied. It has no gradients: call this within `torch.no_grad`.

        Args:
            scratch: `(size or more,) uint8`; what is in it is lost.
        """
        if scratch is not self._scratch:
            with torch.inference_mode(False):
                self._bind(scratch)
        try:
            for step in self._steps:
                step()
            return [
                output.of(self._new) if isinstance(output, _Part) else output.clone()
                for output in self._outputs
            ]
        finally:
            self._new.clear()

    def _bind(self, scratch: Tensor) -> None:
        def placed(value: Any) -> Any:
            return value.on(scratch) if isinstance(value, _Place) else value

        self._scratch = None  # until all is bound
        done = [
            [storage for storage, life in self._lives.items() if life.end == index]
            for index in range(len(self._calls))
        ]
        self._steps = [
            _step(call.changed(placed), self._new, ended)
            for call, ended in zip(self._calls, done, strict=True)
        ]
        self._outputs = [placed(result) for result in self._results]
        self._scratch = scratch


def planned(heard: Sequence[Call], results: Sequence[Tensor]) -> Recording:
    """Give every tensor that was made a place that it shares with none that is in use then.

    Raises:
        ValueError: something cannot be repeated.
    """
    calls: list[Call] = []
    lives: dict[int, _Life] = {}  # by storage
    for call in heard:
        if _UNREPEATABLE & set(call.operation.tags):
            raise ValueError(f"{call.operation} may give something else next time")
        if not _storages(call.written()) <= lives.keys():
            raise ValueError(f"{call.operation} writes to what is not the network's own")
        given = _storages(call.given())
        for storage in given & lives.keys():
            lives[storage].end = len(calls)
        made = [tensor for tensor in _tensors(call.result) if _storage(tensor) not in given]
        is_empty = call.operation.overloadpacket in _WITHOUT_NUMBERS
        anew = not is_empty and _writing(call.operation) is None
        for tensor in made:
            size = tensor.untyped_storage().nbytes()
            life = _Life(len(calls), len(calls), size, tensor.dtype, anew)
            lives[_storage(tensor)] = life
        if (made and not is_empty) or call.written() or not call.operation._schema.returns:
            calls.append(call)  # the others are views, and memory without numbers
    for result in results:
        if _storage(result) not in lives:
            raise ValueError("the result is not made by the network")
        lives[_storage(result)].end = len(calls)
    new = {storage: life for storage, life in lives.items() if life.anew}
    starts = _starts({storage: life for storage, life in lives.items() if not life.anew})

    def place(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        storage, offset = _storage(value), int(value.storage_offset())
        if (life := lives.get(storage)) is None:
            return value
        if value.is_conj() or value.is_neg() or value.dtype != life.dtype:
            raise ValueError("numbers that are read as others than were written")
        if life.anew:
            return _Part(storage, offset, value.shape, value.stride())
        return _Place(starts[storage], offset, value.dtype, value.shape, value.stride())

    size = max((start + lives[storage].size for storage, start in starts.items()), default=0)
    return Recording([call.changed(place) for call in calls], _each(results, place), new, size)


def _starts(lives: Mapping[int, _Life]) -> dict[int, int]:
    """Storage → first byte: the lowest that is free for as long as it is needed."""
    starts: dict[int, int] = {}
    taken: list[tuple[int, int, int]] = []  # first byte, end, last use
    for storage, life in lives.items():
        taken = sorted(entry for entry in taken if entry[2] >= life.start)
        start = 0
        for first, end, _ in taken:
            if first - start >= life.size:
                break
            start = max(start, end)
        starts[storage] = start
        taken.append((start, start + -(-life.size // _ALIGNMENT) * _ALIGNMENT, life.end))
    return starts


def _step(call: Call, new: dict[int, Tensor], ended: Sequence[int]) -> Callable[[], object]:
    """What does a call of tensors that lie in their places.

    Args:
        call: as it is to be done.
        new: storage → tensor, for what operations make anew.
        ended: those of them that are not used after the call.
    """
    operation, kwargs = call.operation, dict(call.kwargs)
    results = _leaves(call.result)
    makes = [(i, part.storage) for i, part in enumerate(results) if isinstance(part, _Part)]
    if operation._schema.is_mutable:
        makes = []  # what it gives is what it was given
    elif (writing := _writing(operation)) is not None:
        operation, names = writing
        kwargs |= dict(zip(names, results, strict=True))
    function = _FUNCTIONS.get(operation, operation._op)  # without what Python puts around it
    late = [i for i, arg in enumerate(call.args) if _has_parts(arg)]
    if _has_parts(list(call.kwargs.values())):
        raise ValueError(f"{operation} is given a new tensor by name")
    if not late and not makes:
        return partial(function, *call.args, **kwargs)

    def current(value: Any) -> Any:
        return value.of(new) if isinstance(value, _Part) else value

    def step() -> None:
        args = list(call.args)
        for index in late:
            args[index] = _each(args[index], current)
        found = function(*args, **kwargs)
        if makes:
            leaves = _leaves(found)
            for index, storage in makes:
                new[storage] = leaves[index]
        for storage in ended:
            del new[storage]

    return step


@cache
def _writing(operation: Any) -> tuple[Any, list[str]] | None:
    """The variant of an operation that writes to given tensors, and their names."""
    wanted = [(a.name, str(a.type)) for a in operation._schema.arguments]
    packet = operation.overloadpacket
    for name in packet.overloads():
        variant = getattr(packet, name)
        given = [a for a in variant._schema.arguments if not a.is_out]
        out = [a.name for a in variant._schema.arguments if a.is_out]
        if out and [(a.name, str(a.type)) for a in given] == wanted:
            return variant, out
    return None


def _storage(tensor: Tensor) -> int:
    """Which memory a tensor lies in; 0 for weights in a layout of the CPU's library."""
    return 0 if tensor.is_mkldnn else tensor.untyped_storage()._cdata


def _storages(tensors: Sequence[Tensor]) -> set[int]:
    return {_storage(tensor) for tensor in tensors}


def _tensors(value: Any) -> list[Tensor]:
    """All tensors of lists and tuples."""
    return [leaf for leaf in _leaves(value) if isinstance(leaf, Tensor)]


def _has_parts(value: Any) -> bool:
    return any(isinstance(leaf, _Part) for leaf in _leaves(value))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Lists and tuples with all that they hold changed."""
    if isinstance(value, (list, tuple)):
        return type(value)(_each(part, change) for part in value)
    return change(value)
