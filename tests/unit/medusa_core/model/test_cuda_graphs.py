"""Recorded networks say what they say unrecorded. Needs a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medusa_core.model import open_model
from medusa_core.model.cuda_graphs import MAX_SHAPES, Recorded
from medusa_core.model.execution import Execution, movement

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


def test_many_shapes_are_recorded_one_after_the_other() -> None:
    network = _network()
    recorded = Recorded(lambda tensors: [network(tensors[0])])
    for side in range(8, 8 + 2 * MAX_SHAPES):
        image = torch.rand(1, 3, side, side, device="cuda")
        for _ in range(3):
            assert torch.allclose(recorded([image])[0], network(image), rtol=1e-3, atol=1e-4)
    assert len(recorded._recordings) <= MAX_SHAPES


def test_what_waits_for_the_device_is_not_recorded() -> None:
    def branching(tensors: list[Tensor]) -> list[Tensor]:
        return [tensors[0] * 2 if float(tensors[0].sum()) > 0 else tensors[0]]

    recorded = Recorded(branching)  # type: ignore[arg-type]
    for sign in (1, 1, -1, 1):
        x = torch.full((2,), float(sign), device="cuda")
        assert torch.equal(recorded([x])[0], branching([x])[0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_predicts_the_same_however_often(
    make_model: Callable[..., Path], precision: str
) -> None:
    path = make_model("depth", "semseg")
    model = open_model(path, device="cuda", execution=Execution(precision=precision))
    plain = open_model(path, device="cuda", execution=Execution("plain"))
    limit = 1e-3 if precision == "fp32" else 0.05
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(1, 3, 64, 96, generator=generator).cuda()
        expected, found = plain(images), model(images)
        assert all(movement(found[name], expected[name]) < limit for name in found)
        with torch.inference_mode():
            again = model(images, ["depth"])
        assert torch.equal(again["depth"], found["depth"]) or seed == 0
