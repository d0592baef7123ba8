"""Networks in training whose kernels and gradients are recorded once and replayed (CUDA graphs).

Small networks are thousands of small kernels a step; starting them one by one takes a card's host
longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

LIMIT = 0.05
"""How far outputs and gradients may move: RMS of the difference / RMS of the plain ones. Float32
convolutions of a card round to ten bits, in an order that differs from run to run."""

Weighted = Mapping[str, Sequence[tuple[float, Tensor]]]
"""Task → (weight, raw prediction) pairs, as `Head.training_outputs` gives them."""


class Outputs(nn.Module):
    """Networks that together give the weighted raw predictions of some tasks.

    Args:
        networks: whose parameters they are.
        predict: tensors of a batch → weighted raw predictions, always as many.
    """

    def __init__(self, networks: Sequence[nn.Module], predict: Callable[..., Weighted]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.predict = predict
        self.weights: dict[str, list[float]] = {}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """All raw predictions, one after the other."""
        outputs = self.predict(*inputs)
        self.weights = {name: [weight for weight, _ in pairs] for name, pairs in outputs.items()}
        return tuple(raw for pairs in outputs.values() for _, raw in pairs)

    def weighted(self, inputs: Sequence[Tensor]) -> dict[str, list[tuple[float, Tensor]]]:
        """What `predict` gives, whether it is recorded or not."""
        rest = iter(self(*inputs))
        return {
            name: [(weight, next(rest)) for weight in weights]
            for name, weights in self.weights.items()
        }


def record(network: nn.Module, inputs: Sequence[Tensor]) -> bool:
    """Have a network replay, from now on, what it does to inputs of these shapes.

    Its outputs and gradients are compared with the plain ones first. Statistics of normalisations
    are as before. Inputs of another shape must not be given to it afterwards. Only kernels are
    replayed: what a network does in Python, such as counting steps, happens no more.

    Args:
        network: in training mode on a CUDA device; `network(*inputs)` gives a tuple of tensors.
        inputs: an example, without gradients.

    Returns:
        Whether it is recorded. If not, since that is impossible or says something else, it is run
        as it is.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    plain = _outputs_and_gradients(network, inputs)
    _restore(network, buffers)
    try:
        with _current(inputs[0].device):
            torch.cuda.make_graphed_callables(network, tuple(inputs), allow_unused_input=True)
        _restore(network, buffers)
        found = _outputs_and_gradients(network, inputs)
        moved = [_movement(a, b) for a, b in zip(found, plain, strict=True)]
        right = max(moved) <= LIMIT
    except Exception:  # noqa: BLE001 - whatever a recording does not take, plain runs do
        right = False
    if not right:
        network.__dict__.pop("forward", None)
    _restore(network, buffers)
    return right


def _current(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _outputs_and_gradients(
    network: nn.Module, inputs: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    outputs = network(*inputs)
    parameters = [p for p in network.parameters() if p.requires_grad]
    loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [output.detach().clone() for output in outputs], [
        gradient.clone() for gradient in gradients if gradient is not None
    ]


def _movement(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of all tensors together; infinite where their numbers differ, or anything is NaN."""
    if len(found) != len(expected):
        return float("inf")
    pairs = list(zip(found, expected, strict=True))
    difference = torch.stack([(a - b).double().square().sum() for a, b in pairs]).sum()
    size = torch.stack([b.double().square().sum() for _, b in pairs]).sum().clamp_min(1e-24)
    moved = float((difference / size).sqrt())
    return moved if moved == moved else float("inf")


@torch.no_grad()
def _restore(network: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
