"""Networks run from a recording: the operations of one run, done again in memory planned ahead.

A head is some eighty small operations on a CPU. Finding out, in Python, which comes next, and new
memory for what each gives, take about as long as the operations. A recording knows both. It does
the same operations in the same order, so it gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from medusa_core.model.memory import is_out_of_memory

Network = Callable[[Sequence[Tensor]], list[Tensor]]
"""Tensors in, tensors out: an image to feature levels, feature levels to one prediction."""
LARGEST = 1 << 21
"""Numbers in all feature levels up to which networks are recorded; then, operations are long."""
SHAPES = 4
"""Shapes of features that networks are recorded for."""
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
_UNREPEATABLE = {
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
}


class Desk:
    """Where networks find the same features: in memory that stays, so that they can be recorded.

    Recordings are made for the first shapes of features that come twice, a few of them. All share
    one piece of scratch memory, which is in the processor's cache when the next head needs it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: set[object] = set()
        self._sheets: dict[object, _Sheet] = {}
        self._sheet = _Sheet([])
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def __deepcopy__(self, memo: object) -> Desk:
        """An empty one: recordings are made again."""
        return Desk()

    @contextmanager
    def holding(self, features: Sequence[Tensor]) -> Iterator[bool]:
        """Put features on the desk, and say whether they are there: `run` is for within.

        Not if their shape is new, if they are large or on a card, or while another thread uses the
        desk.
        """
        if not self._lock.acquire(blocking=False):
            yield False
            return
        try:
            yield self._hold(features)
        finally:
            self._lock.release()

    def _hold(self, features: Sequence[Tensor]) -> bool:
        form = tuple((level.shape, level.stride(), level.dtype) for level in features)
        if form not in self._sheets:
            on_cpu = all(level.device.type == "cpu" for level in features)
            small = 0 < sum(level.numel() for level in features) <= LARGEST
            if len(self._sheets) == SHAPES or not (on_cpu and small):
                return False
            if form not in self._seen:
                self._seen.add(form)
                return False
            with torch.inference_mode(False):
                self._sheets[form] = _Sheet([torch.empty_like(level) for level in features])
        self._sheet = self._sheets[form]
        for kept, level in zip(self._sheet.features, features, strict=True):
            kept.copy_(level)
        return True

    def run(self, network: Network) -> list[Tensor] | None:
        """What a network says of the features on the desk; None if it cannot be recorded.

        Args:
            network: does the same operations whatever is in the features.
        """
        features, recordings = self._sheet.features, self._sheet.recordings
        if network not in recordings:
            recordings[network] = recorded(network, features)
        recording = recordings[network]
        if recording is None:
            return None
        if len(self._scratch) < recording.size:
            with torch.inference_mode(False):
                self._scratch = torch.empty(recording.size, dtype=torch.uint8)
        return recording.run(self._scratch)


@dataclass
class _Sheet:
    """Features of one shape, and recordings of what networks do to them."""

    features: list[Tensor]
    recordings: dict[Network, Recording | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """A tensor of the recording: where it lies in scratch memory."""

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
class _Call:
    """An operation as it was called, and what it gave."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    def changed(self, change: Callable[[Any], Any]) -> _Call:
        """The same with other tensors."""
        kwargs = {name: _each(value, change) for name, value in self.kwargs.items()}
        return _Call(self.operation, _each(self.args, change), kwargs, _each(self.result, change))

    def written(self) -> set[int]:
        """Which memory it writes to, of what it is given."""
        arguments = self.operation._schema.arguments
        given = dict(zip((a.name for a in arguments), self.args, strict=False)) | self.kwargs
        return _storages([given.get(a.name) for a in arguments if a.is_write])


@dataclass
class _Life:
    """Memory of a tensor: the call that makes it, the last one that uses it, its bytes."""

    start: int
    end: int
    size: int


class Recording:
    """Operations of one run on tensors that stay where they are.

    Attributes:
        size: bytes of scratch memory that it needs.
    """

    def __init__(self, calls: Sequence[_Call], results: Sequence[_Place], size: int) -> None:
        self.size = size
        self._calls, self._results = calls, results
        self._scratch: Tensor | None = None
        self._steps: list[Callable[[], object]] = []
        self._outputs: list[Tensor] = []

    def run(self, scratch: Tensor) -> list[Tensor]:
        """What the network gives, copied. It has no gradients: call this within `torch.no_grad`.

        Args:
            scratch: `(size or more,) uint8`; what is in it is lost.
        """
        if scratch is not self._scratch:
            with torch.inference_mode(False):
                self._bind(scratch)
        for step in self._steps:
            step()
        return [output.clone() for output in self._outputs]

    def _bind(self, scratch: Tensor) -> None:
        def placed(value: Any) -> Any:
            return value.on(scratch) if isinstance(value, _Place) else value

        self._scratch = scratch
        self._steps = list(_steps(self._calls, placed))
        self._outputs = [placed(result) for result in self._results]


def recorded(network: Network, features: Sequence[Tensor]) -> Recording | None:
    """A recording of what a network does to features, which must stay where they are.

    None if that cannot be repeated: it depends on numbers in tensors or on chance, or it writes to
    its features or parameters. Operations are seen, Python is not.
    """
    try:
        with torch.inference_mode(False), torch.no_grad():
            expected = [result.clone() for result in network(features)]
            with _Listener() as listener:  # whatever is made at the first run, is
                results = network(features)
            recording = _planned(listener.calls, results)
            found = recording.run(torch.empty(recording.size, dtype=torch.uint8))
            same = [torch.equal(a, b) for a, b in zip(found, expected, strict=True)]
    except Exception as err:
        if is_out_of_memory(err):
            raise
        return None
    return recording if all(same) else None


class _Listener(TorchDispatchMode):
    """Hears every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append(_Call(func, args, kwargs or {}, result))
        return result


def _planned(heard: Sequence[_Call], results: Sequence[Tensor]) -> Recording:
    """Give every tensor that was made a place that it shares with none that is in use then.

    Raises:
        ValueError: something cannot be repeated.
    """
    calls: list[_Call] = []
    lives: dict[int, _Life] = {}
    for call in heard:
        if _UNREPEATABLE & set(call.operation.tags):
            raise ValueError(f"{call.operation} may give something else next time")
        if not call.written() <= lives.keys():
            raise ValueError(f"{call.operation} writes to what is not the network's own")
        given = _storages([call.args, *call.kwargs.values()])
        for storage in given & lives.keys():
            lives[storage].end = len(calls)
        new = [tensor for tensor in _tensors(call.result) if _storage(tensor) not in given]
        for tensor in new:
            size = tensor.untyped_storage().nbytes()
            lives[_storage(tensor)] = _Life(len(calls), len(calls), size)
        is_empty = call.operation.overloadpacket is _aten.empty
        if (new and not is_empty) or call.operation._schema.is_mutable:
            calls.append(call)  # the others are views, and memory without numbers
    for result in results:
        if _storage(result) not in lives:
            raise ValueError("the result is not made by the network")
        lives[_storage(result)].end = len(calls)
    starts = _starts(lives)

    def place(tensor: Any) -> Any:
        start = starts.get(_storage(tensor)) if isinstance(tensor, Tensor) else None
        if start is None:
            return tensor
        return _Place(start, tensor.storage_offset(), tensor.dtype, tensor.shape, tensor.stride())

    size = max(starts[storage] + life.size for storage, life in lives.items())
    return Recording([call.changed(place) for call in calls], _each(results, place), size)


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


def _steps(calls: Sequence[_Call], placed: Callable[[Any], Any]) -> Iterator[Callable[[], object]]:
    """What does the calls, with results written to their places."""
    waiting: _Call | None = None  # gives new memory, from where its result is to be brought
    for call in [*calls, None]:
        if waiting is not None:
            merged = call is not None and _rectifies(call, waiting)
            yield partial(_rectify if merged else _bring, waiting.changed(placed))
            waiting = None
            if merged:
                continue
        if call is None:
            return
        bound = call.changed(placed)
        if call.operation._schema.is_mutable:
            yield partial(_function(call.operation), *bound.args, **bound.kwargs)
        elif (writing := _writing(call.operation)) is not None:
            operation, names = writing
            results = dict(zip(names, _tensors(bound.result), strict=True))
            yield partial(_function(operation), *bound.args, **bound.kwargs, **results)
        else:
            waiting = call


def _function(operation: Any) -> Any:
    """What is called for an operation; its own function without what Python puts around it."""
    return _FUNCTIONS.get(operation, operation._op)


def _bring(call: _Call) -> None:
    found = call.operation._op(*call.args, **call.kwargs)
    for kept, new in zip(_tensors(call.result), _tensors(found), strict=True):
        kept.copy_(new)


def _rectifies(call: _Call, other: _Call) -> bool:
    """Whether a call is the ReLU, in place, of all that another one gives."""
    is_relu = call.operation is torch.ops.aten.relu_.default
    return is_relu and isinstance(call.args[0], _Place) and call.args[0] == other.result


def _rectify(call: _Call) -> None:
    """Bring the ReLU of a result: one pass over it for both."""
    torch.clamp_min(call.operation._op(*call.args, **call.kwargs), 0, out=call.result)


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


def _storages(value: Any) -> set[int]:
    return {_storage(tensor) for tensor in _tensors(value)}


def _tensors(value: Any) -> list[Tensor]:
    """All tensors of lists and tuples."""
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in _tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Lists and tuples with all that they hold changed."""
    if isinstance(value, (list, tuple)):
        return type(value)(_each(part, change) for part in value)
    return change(value)
