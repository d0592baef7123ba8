"""Networks run by OpenVINO on the CPU. The only file that imports it; the extra `openvino`."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_TYPES = {"fp32": "f32", "bf16": "bf16"}


class _Flat(nn.Module):
    """Tensors as separate arguments, as the converter wants them."""

    def __init__(self, network: nn.Module, is_backbone: bool) -> None:
        super().__init__()
        self.network = network
        self.is_backbone = is_backbone

    def forward(self, *tensors: Tensor) -> Any:
        return tuple(self.network(tensors[0])) if self.is_backbone else self.network(list(tensors))


def compile_network(
    network: nn.Module, is_backbone: bool, example: Sequence[Tensor], precision: str
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """A network as OpenVINO runs it, for any batch and size.

    Args:
        network: plain, on the CPU.
        is_backbone: takes one image; a head takes a list of feature levels.
        example: what it can be called with.
        precision: "fp32" or "bf16".
    """
    openvino: Any = importlib.import_module("openvino")  # its annotations lack what is used here
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(
            _Flat(network, is_backbone).eval(),
            example_input=tuple(t.contiguous() for t in example),
        )
    compiled = openvino.Core().compile_model(
        converted,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        },
    )

    # Predictions are upsampled next, which takes a sixth of the time with channels last.
    layout = torch.contiguous_format if is_backbone else torch.channels_last

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        results = compiled([t.contiguous().numpy() for t in tensors])
        found = [torch.from_numpy(results[i]) for i in range(len(compiled.outputs))]
        return [tensor.contiguous(memory_format=layout) for tensor in found]

    return run
