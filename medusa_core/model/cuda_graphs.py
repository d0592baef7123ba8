"""Networks whose kernels are recorded once for a shape of input and replayed (CUDA graphs).

Heads are many small kernels: starting them one by one takes a GPU's host longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Network = Callable[[Sequence[Tensor]], list[Tensor]]
MAX_SHAPES = 4
"""Recordings kept at a time: each holds memory of its own."""
WARM_UP = 3


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: list[Tensor]


class Recorded:
    """A network on a CUDA device, recorded for a shape when that comes for the second time.

    Results are copies: the next image does not change them. A network that cannot be recorded,
    since it waits for the device to decide what to do, is run as it is.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._seen: list[tuple[object, ...]] = []
        self._recordings: dict[tuple[object, ...], _Recording | None] = {}

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As the network itself."""
        key = tuple((tuple(t.shape), t.dtype, t.stride()) for t in tensors)
        if key not in self._recordings:
            if key not in self._seen:
                self._seen = [*self._seen, key][-MAX_SHAPES:]
                return self.network(tensors)
            while len(self._recordings) >= MAX_SHAPES:
                self._recordings.pop(next(iter(self._recordings)))
            self._recordings[key] = self._record(tensors)
        recording = self._recordings[key]
        if recording is None:
            return self.network(tensors)
        torch._foreach_copy_(recording.inputs, list(tensors))
        recording.graph.replay()
        return [output.clone() for output in recording.outputs]

    @torch.inference_mode(False)
    @torch.no_grad()
    def _record(self, tensors: Sequence[Tensor]) -> _Recording | None:
        inputs = [tensor.clone() for tensor in tensors]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.network(inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                outputs = self.network(inputs)
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        return _Recording(graph, inputs, outputs)
