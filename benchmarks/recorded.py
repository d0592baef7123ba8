"""Networks whose kernels are recorded once for a shape of input and replayed (CUDA graphs).

Heads are many small kernels: starting them one by one takes a card's host longer than running
them. `benchmarks.gpu` measures what recording would give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Network = Callable[[Sequence[Tensor]], list[Tensor]]
WARM_UP = 3


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: list[Tensor]


class Recorded:
    """A network on a CUDA device, recorded for every shape when that comes for the first time.

    Results are copies: the next image does not change them. A network that cannot be recorded,
    since it waits for the device to decide what to do, is run as it is.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._recordings: dict[tuple[object, ...], _Recording | None] = {}

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As the network itself."""
        key = tuple((tuple(t.shape), t.dtype, t.stride(), t.device) for t in tensors)
        with torch.cuda.device(tensors[0].device):
            if key not in self._recordings:
                self._recordings[key] = _record(self.network, tensors)
            recording = self._recordings[key]
            if recording is None:
                return self.network([tensor.clone() for tensor in tensors])
            torch._foreach_copy_(recording.inputs, list(tensors))
            recording.graph.replay()
            return [output.clone() for output in recording.outputs]


@torch.inference_mode(False)
@torch.no_grad()
def _record(network: Network, tensors: Sequence[Tensor]) -> _Recording | None:
    inputs = [tensor.clone() for tensor in tensors]
    graph, side, current = torch.cuda.CUDAGraph(), torch.cuda.Stream(), torch.cuda.current_stream()
    side.wait_stream(current)
    with torch.cuda.stream(current):  # on which it ends, however it ends
        try:
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    network(inputs)
            current.wait_stream(side)
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                outputs = network(inputs)
        except RuntimeError:
            torch.cuda.synchronize()
            return None
    return _Recording(graph, inputs, outputs)
