from __future__ import annotations

import hashlib

import pytest
import torch

from medusa_core.backbones.fingerprint import fingerprint

DESCRIPTION = {
    "name": "hrnet",
    "kwargs": {"a": 1, "b": None},
    "out_indices": (1, 2),
    "mean": (0.5, 0.25, 0.125),
}


def tensors():
    return {
        "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "bn.num_batches_tracked": torch.tensor(3),
        "mask": torch.tensor([True, False]),
    }


def changed(**update):
    return fingerprint(DESCRIPTION, {**tensors(), **update})


def test_it_does_not_depend_on_order_or_memory_layout():
    reordered = {key: DESCRIPTION[key] for key in reversed(DESCRIPTION)} | {
        "kwargs": {"b": None, "a": 1},
        "out_indices": [1, 2],
    }
    weights = {key: tensors()[key] for key in reversed(tensors())}
    weights["conv.weight"] = weights["conv.weight"].to(memory_format=torch.channels_last)
    assert fingerprint(reordered, weights) == fingerprint(DESCRIPTION, tensors())


def test_it_does_not_depend_on_the_precision_weights_were_stored_in():
    weights = tensors()
    half = {**weights, "conv.weight": torch.nn.Parameter(weights["conv.weight"].half())}
    assert fingerprint(DESCRIPTION, half) == fingerprint(DESCRIPTION, weights)


def test_every_change_of_a_tensor_changes_it():
    weight, mask = tensors()["conv.weight"], tensors()["mask"]
    nudged = weight.clone()
    nudged[1, 2, 1, 1] = torch.nextafter(nudged[1, 2, 1, 1], torch.tensor(100.0))
    negative_zero = weight.clone()
    negative_zero[0, 0, 0, 0] = -0.0
    prints = [
        fingerprint(DESCRIPTION, tensors()),
        changed(**{"conv.weight": nudged}),
        changed(**{"conv.weight": negative_zero}),
        changed(**{"conv.weight": weight.reshape(3, 2, 2, 2)}),
        changed(**{"conv.weight": weight.int()}),
        changed(**{"bn.num_batches_tracked": torch.tensor(3, dtype=torch.int32)}),
        changed(**{"bn.num_batches_tracked": torch.tensor([3])}),
        changed(mask=mask.to(torch.uint8)),
        changed(mask=mask.flip(0)),
        changed(extra=torch.empty(0)),
        changed(extra=torch.empty(0, 1)),
        fingerprint(DESCRIPTION, {k + "_": v for k, v in tensors().items()}),
        fingerprint(DESCRIPTION, {}),
    ]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    "update",
    [
        {"name": "hrnet2"},
        {"kwargs": {"a": 2, "b": None}},
        {"kwargs": {"a": 1}},
        {"out_indices": (2, 1)},
        {"mean": (0.5, 0.25, 0.126)},
        {"more": None},
    ],
)
def test_every_change_of_the_description_changes_it(update):
    assert fingerprint({**DESCRIPTION, **update}, tensors()) != fingerprint(DESCRIPTION, tensors())


def test_neighbouring_parts_do_not_run_together():
    a = {"x": torch.tensor([1, 2], dtype=torch.uint8), "y": torch.tensor([], dtype=torch.uint8)}
    b = {"x": torch.tensor([1], dtype=torch.uint8), "y": torch.tensor([2], dtype=torch.uint8)}
    assert fingerprint({}, a) != fingerprint({}, b)


def test_the_definition_does_not_move():
    """Spelled out by hand: heads in the field depend on it."""

    def framed(*parts: bytes) -> bytes:
        return b"".join(len(part).to_bytes(8, "little") + part for part in parts)

    data = framed(
        b'{"mean":[0.5],"name":"x"}',
        *(b"a", b"int64", b"[]", bytes([1, 0, 0, 0, 0, 0, 0, 0])),
        *(b"b", b"float32", b"[1,2]", bytes([0, 0, 128, 63, 0, 0, 0, 192])),
    )
    weights = {"b": torch.tensor([[1.0, -2.0]], dtype=torch.float64), "a": torch.tensor(1)}
    expected = hashlib.sha256(data).hexdigest()
    assert fingerprint({"name": "x", "mean": (0.5,)}, weights) == expected


def test_a_description_that_is_not_json_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"mean": float("nan")}, {})
