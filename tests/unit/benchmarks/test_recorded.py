"""Recorded networks say what they say unrecorded. Needs a CUDA device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.recorded import Recorded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 1))
    return layers.cuda().eval().requires_grad_(False)


def test_recordings_follow_their_inputs_and_keep_their_results() -> None:
    network = _network()
    recorded = Recorded(lambda tensors: [network(tensors[0])])
    images = [torch.rand(2, 3, 16, 24, device="cuda") for _ in range(5)]
    found = [recorded([image])[0] for image in images]
    for image, result in zip(images, found, strict=True):
        assert torch.allclose(result, network(image), rtol=1e-3, atol=1e-4)


def test_every_shape_has_a_recording_of_its_own() -> None:
    network = _network()
    recorded = Recorded(lambda tensors: [network(tensors[0])])
    for side in (8, 9, 8, 9):
        image = torch.rand(1, 3, side, side, device="cuda")
        assert torch.allclose(recorded([image])[0], network(image), rtol=1e-3, atol=1e-4)
    assert len(recorded._recordings) == 2


def test_what_waits_for_the_device_is_not_recorded() -> None:
    def branching(tensors: list[Tensor]) -> list[Tensor]:
        return [tensors[0] * 2 if float(tensors[0].sum()) > 0 else tensors[0]]

    recorded = Recorded(branching)  # type: ignore[arg-type]
    for sign in (1, 1, -1, 1):
        x = torch.full((2,), float(sign), device="cuda")
        assert torch.equal(recorded([x])[0], branching([x])[0])
