"""The probe: the same bits on the same machine, close elsewhere, never silently different."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pytest
import torch

from medusa_core.backbones.timm_backbone import build, describe
from medusa_core.heads.base import Head
from medusa_core.model import probe


@pytest.fixture(scope="module")
def output() -> torch.Tensor:
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 10


def test_the_image_is_fixed() -> None:
    image = probe.probe_image()
    assert tuple(image.shape) == (1, 3, 64, 64)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < 0.01
    assert 0.99 < image.max() <= 1
    state = torch.get_rng_state()
    assert torch.equal(image, probe.probe_image())
    assert torch.equal(torch.get_rng_state(), state)
    values = (image * 255).round().to(torch.int64)
    assert values[0, 0, 0, :5].tolist() == [0, 1, 4, 9, 16]
    assert values[0, 2, 1, :3].tolist() == [85, 93, 103]


def test_features_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    backbone = build(describe("test_resnet")).freeze()
    before = torch.get_num_threads()
    first = probe.probe_features(backbone)
    try:
        torch.set_num_threads(2)
        second = probe.probe_features(backbone)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(level.requires_grad for level in first)


def test_threads_are_restored_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), probe.one_thread():
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_threads_are_restored_when_two_use_one_at_once() -> None:
    before, inside, seen = torch.get_num_threads(), threading.Barrier(2, timeout=0.2), []

    def use() -> None:
        with probe.one_thread():
            with suppress(threading.BrokenBarrierError):
                inside.wait()  # nobody comes while this one is in there
            seen.append(torch.get_num_threads())

    try:
        torch.set_num_threads(3)
        users = [threading.Thread(target=use) for _ in range(2)]
        for user in users:
            user.start()
        for user in users:
            user.join()
        assert inside.broken
        assert seen == [1, 1]
        last: list[int] = []
        late = threading.Thread(target=lambda: last.append(torch.get_num_threads()))
        late.start()
        late.join()
        assert [torch.get_num_threads(), *last] == [3, 3]
    finally:
        torch.set_num_threads(before)


def test_a_record_holds_the_values(output: torch.Tensor) -> None:
    record = probe.record(output)
    assert record.shape == (1, 3, 8, 8)
    raw = np.frombuffer(base64.b64decode(record.values), "<f4").reshape(record.shape)
    np.testing.assert_array_equal(raw, output.numpy())
    assert record.torch == torch.__version__
    channels_last = output.to(memory_format=torch.channels_last)
    assert probe.record(channels_last) == record


def test_equal(output: torch.Tensor) -> None:
    assert probe.compare(probe.record(output), output.clone()) == "equal"


def test_one_bit_on_the_same_machine_is_a_difference(output: torch.Tensor) -> None:
    nudged = output.clone()
    nudged[0, 0, 0, 0] = torch.nextafter(nudged[0, 0, 0, 0], torch.tensor(99.0))
    assert probe.compare(probe.record(output), nudged) == "different"


@pytest.mark.parametrize("field", ["torch", "cpu_capability", "device"])
def test_another_machine_may_be_close(output: torch.Tensor, field: str) -> None:
    record = probe.record(output).model_copy(update={field: "other"})
    largest = float(output.abs().max())
    assert probe.compare(record, output) == "equal"
    assert probe.compare(record, output + 0.9e-3 * largest) == "close"
    assert probe.compare(record, output + 1.2e-3 * largest) == "different"
    assert probe.compare(record, output * float("nan")) == "different"
    assert probe.compare(record, output[:, :2]) == "different"


@pytest.mark.parametrize(
    "changes",
    [
        {"values": "?"},
        {"values": ""},
        {"values": "AAA="},
        {"shape": (1, 3, 8)},
        {"shape": (2**62, 3)},
        {"shape": ()},
    ],
)
def test_a_damaged_record_is_different(output: torch.Tensor, changes: dict[str, object]) -> None:
    record = probe.record(output).model_copy(update={**changes, "torch": "other"})
    assert probe.compare(record, output) == "different"


def test_a_head_that_works_in_place_does_not_spoil_the_probe_of_the_next() -> None:
    class InPlace(Head):
        def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
            return features[0].zero_()

    features = [torch.ones(1, 2, 4, 4)]
    probe.probe_output(InPlace(), features)
    assert torch.equal(features[0], torch.ones(1, 2, 4, 4))
