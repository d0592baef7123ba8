"""Predictions and targets of a report are drawn so that they can be compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medusa_core.api import LabelSchema, Task
from medusa_core.engine.report import beside_target
from medusa_core.model.assembly import make_task
from medusa_core.plugin_host import default_host

SIZE = (24, 32)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def _task(name: str) -> Task:
    spec = default_host().tasks.get(name)
    labels = LabelSchema(names=("a", "b", "c")) if name == "semseg" else None
    return make_task(default_host(), spec, labels)


def _values(name: str, seed: int) -> np.ndarray:
    task, random = _task(name), torch.Generator().manual_seed(seed)
    raw = torch.randn(1, task.out_channels, *SIZE, generator=random)
    return task.decode(raw)[0].numpy()


def _drawn(
    name: str, value: np.ndarray, target: np.ndarray, valid: bool = True
) -> list[np.ndarray]:
    mask = torch.full((1, *SIZE), valid)
    return beside_target(_task(name), IMAGE, value, torch.from_numpy(target)[None], mask)


@pytest.mark.parametrize("name", ["depth", "normals", "edges", "semseg"])
def test_a_prediction_that_is_the_target_looks_like_it(name: str) -> None:
    value = _values(name, 0)
    prediction, target = _drawn(name, value, value)
    assert prediction.shape == target.shape == IMAGE.shape
    assert np.array_equal(prediction, target)


@pytest.mark.parametrize("name", ["normals", "edges", "semseg"])
def test_swapping_both_swaps_their_pictures(name: str) -> None:
    one, other = _values(name, 0), _values(name, 1)
    there, back = _drawn(name, one, other), _drawn(name, other, one)
    assert np.array_equal(there[0], back[1])
    assert np.array_equal(there[1], back[0])


def test_equal_depths_have_equal_colours_whatever_else_is_seen() -> None:
    near = np.linspace(1, 2, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    far = near * 5
    near[:4], far[:4] = 2, 2
    prediction, target = _drawn("depth", near, far)
    assert np.array_equal(prediction[:4], target[:4])
    assert not np.array_equal(prediction[4:], target[4:])


def test_targets_that_are_not_valid_are_no_class() -> None:
    value = _values("semseg", 0)
    _, unknown = _drawn("semseg", value, value, valid=False)
    _, target = _drawn("semseg", value, np.full_like(value, -1))
    assert np.array_equal(unknown, target)
