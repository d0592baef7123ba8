"""Targets of whole images: what counts, how views change them, what predictions are means of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medusa_core.api import LabelSchema, MetricRef, OutputSpec, Sample, TargetSpec, Task, TaskSpec
from medusa_core.data.geometry import View, view_value
from medusa_core.engine.binding import Binding
from medusa_core.engine.training import outputs_loss
from medusa_core.errors import DataError
from medusa_core.model.images import finish

CANVAS = (32, 32)


class Whole(Task):
    def encode_target(self, raw: np.ndarray | None, image: np.ndarray) -> np.ndarray:
        return np.float32(image.mean()) if raw is None else raw

    def loss(self, prediction: Any, target: Any, valid: Any) -> Any:
        error = (prediction.squeeze(1) - target).abs()
        return {"l1": torch.where(valid, error, 0.0).sum()}

    def new_metrics(self) -> Any:
        return []

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        return image


def binding(labels: LabelSchema | None = None, output: Any = None, **target: Any) -> Binding:
    spec = TaskSpec(
        name="whole",
        title="",
        implementation="none:None",
        output=output or OutputSpec(kind="global", channels=1),
        target=TargetSpec(**target),
        metrics=(MetricRef(name="mae", higher_is_better=False, primary=True),),
    )
    return Binding(Whole(spec, labels), labels)


def sample(value: Any = None, size: tuple[int, int] = (16, 32)) -> Sample:
    image = np.full((*size, 3), 100, np.uint8)
    return Sample("one", image, {} if value is None else {"whole": np.asarray(value)})


def viewed(bound: Binding, seen: Sample, view: View) -> tuple[Any, bool]:
    shown = np.full((*CANVAS, 3), 50, np.uint8)
    shown[:16] = 100
    found = bound.viewed(seen, shown, CANVAS, view)
    assert found is not None
    return found[0].tolist(), bool(found[1])


def test_an_invalid_value_does_not_count() -> None:
    bound = binding(invalid=-1.0)
    for value, counts in ((3.0, True), (-1.0, False)):
        target = bound.target(sample(np.float32(value)))
        assert bool(bound.valid(target)) == counts
        assert viewed(bound, sample(np.float32(value)), View(flip=True)) == (value, counts)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View(), ([1.0, 2.0, 3.0], True)),
        (View(flip=True), ([-1.0, 2.0, 3.0], True)),
        (View(zoom=1.5), ([0.0, 0.0, 0.0], False)),
    ],
)
def test_a_vector_follows_the_view(view: View, expected: Any) -> None:
    bound = binding(channels=3, flip="negate_x", zoom="invalid", invalid=0.0)
    assert viewed(bound, sample(np.float32([1, 2, 3])), view) == expected


def test_classes_change_places_and_distances_shrink() -> None:
    labels = LabelSchema(names=("left", "right", "none"), swap_pairs=((0, 1),))
    spec = TargetSpec(dtype="int64", flip="swap_pairs")
    for before, after in ((0, 1), (1, 0), (2, 2), (255, 255)):
        assert view_value(np.asarray(before), View(flip=True), spec, labels) == after
    spec = TargetSpec(zoom="divide", invalid=0.0)
    assert view_value(np.float32(3), View(zoom=1.5), spec, None) == 2


def test_what_is_computed_sees_the_picture_and_not_its_margin() -> None:
    assert viewed(binding(source="image"), sample(), View()) == (100.0, True)


def test_a_map_for_a_task_of_one_value_is_refused() -> None:
    with pytest.raises(DataError, match=r"is \(16, 32\), task 'whole' needs \(\)"):
        binding().target(sample(np.zeros((16, 32), np.float32)))
    ranged = OutputSpec(kind="global", channels=1, range=(0.0, 4.0))
    with pytest.raises(DataError, match="holds 1 values such as 9"):
        binding(output=ranged).target(sample(np.float32(9)))


def test_a_prediction_is_averaged_over_the_picture_alone() -> None:
    task = binding().task
    raw = torch.full((2, 1, 8, 16), 7.0)  # of 64×128: 40×100 padded
    raw[:, :, :5, :13] = 1.0
    assert finish(raw, task, (40, 100)).tolist() == [[1.0], [1.0]]
    single = torch.full((1, 1, 1, 1), 3.0)
    assert finish(single, task, (40, 100)).tolist() == [[3.0]]


def test_the_loss_takes_one_value_an_image() -> None:
    raw = torch.zeros(2, 1, 4, 4)
    target, valid = torch.tensor([1.0, 5.0]), torch.tensor([True, False])
    assert outputs_loss(binding().task, [(2.0, raw)], target, valid, CANVAS).item() == 2


def test_only_whole_images_can_be_invalid_in_part() -> None:
    with pytest.raises(ValueError, match="for global tasks"):
        binding(output=OutputSpec(channels=1), zoom="invalid")


def test_views_that_make_a_value_invalid_need_a_value_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"needs target\.invalid"):
        binding(zoom="invalid")


def test_a_number_is_negated_by_a_flip() -> None:
    spec = binding(flip="negate_x").task.spec.target
    assert view_value(np.float32(0.5), View(flip=True), spec, None) == np.float32(-0.5)
