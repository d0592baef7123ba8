"""Targets of whole images: what counts, how views change them, what predictions are means of."""

from __future__ import annotations

import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from medusa_core.api import LabelSchema, MetricRef, OutputSpec, Sample, TargetSpec, Task, TaskSpec
from medusa_core.data.geometry import View, place, view_image, view_value
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.cache_pass import PADDING
from medusa_core.engine.feature_cache import cache_images, cache_tasks
from medusa_core.engine.head_training import score_head
from medusa_core.engine.joint_training import JointTask, JointTraining
from medusa_core.engine.outcome import TrainSettings
from medusa_core.engine.training import as_judged, outputs_loss
from medusa_core.errors import DataError
from medusa_core.heads.base import Head
from medusa_core.model.images import finish
from medusa_core.progress import SilentProgress

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
    """The target, and whether it counts: then all of the picture does, and none of the rest."""
    shown = np.full((*CANVAS, 3), 50, np.uint8)
    shown[:16] = 100
    found = bound.viewed(seen, shown, CANVAS, view)
    assert found is not None
    target, mask = found
    height, width = place(seen.image.shape[:2], CANVAS, view).size
    assert mask[:height, :width].all() == mask.any()
    assert mask.sum() == mask[:height, :width].sum()
    return target.tolist(), bool(mask.any())


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


def test_what_is_known_in_part_counts() -> None:
    ranged = OutputSpec(kind="global", channels=2, range=(0.0, 1.0))
    bound = binding(output=ranged, channels=2, invalid=-1.0)
    for value, counts in (([-1.0, 1.0], True), ([-1.0, -1.0], False)):
        assert viewed(bound, sample(np.float32(value)), View(flip=True)) == (value, counts)


def test_classes_change_places_and_distances_shrink() -> None:
    labels = LabelSchema(names=("left", "right", "none"), swap_pairs=((0, 1),))
    spec = TargetSpec(dtype="int64", flip="swap_pairs")
    for before, after in ((0, 1), (1, 0), (2, 2), (255, 255)):
        assert view_value(np.asarray(before), View(flip=True), spec, labels) == after
    spec = TargetSpec(zoom="divide", invalid=0.0)
    assert view_value(np.float32(3), View(zoom=1.5), spec, None) == 2


def test_whole_numbers_are_not_divided() -> None:
    with pytest.raises(ValueError, match='zoom="divide" needs target.dtype="float32"'):
        binding(dtype="int64", zoom="divide", invalid=0.0)
    for activation in ("argmax", "normalise"):
        output = OutputSpec(kind="global", channels=3, activation=activation)
        with pytest.raises(ValueError, match="for numbers, not classes or directions"):
            binding(output=output, channels=3, zoom="divide")


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
    target, valid = torch.tensor([1.0, 5.0]), torch.zeros(2, *CANVAS, dtype=torch.bool)
    valid[0] = True
    assert outputs_loss(binding().task, [(2.0, raw)], target, valid).item() == 2


@pytest.mark.parametrize("cells", [(10, 16), (2, 2), (64, 96)])
@pytest.mark.parametrize("size", [(40, 33), (64, 96), (5, 96)])
def test_a_training_averages_over_what_a_prediction_is_averaged_over(
    size: tuple[int, int], cells: tuple[int, int]
) -> None:
    """Whatever lies beside the picture on the canvas."""
    task, raw = binding().task, torch.rand(1, 2, *cells)
    mask = torch.zeros(1, 64, 96, dtype=torch.bool)
    mask[:, : size[0], : size[1]] = True
    rows, columns = (
        math.ceil(side * n / whole) for side, n, whole in zip(size, cells, (64, 96), strict=True)
    )
    found, counts = as_judged(raw, task, mask)
    assert torch.allclose(found, raw[:, :, :rows, :columns].mean(dim=(2, 3)))
    assert counts.tolist() == [True]
    raw[:, :, rows:] = torch.nan
    raw[:, :, :, columns:] = torch.nan
    assert torch.equal(as_judged(raw, task, mask)[0], found)
    nothing, counts = as_judged(raw, task, torch.zeros_like(mask))
    assert (nothing.tolist(), counts.tolist()) == ([[0.0, 0.0]], [False])


class Shapes:
    """Black pictures, high and wide."""

    name, split, digest, targets = "shapes", "train", "shapes", MappingProxyType({})
    ids = ("wide", "high", "square")

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        return ((16, 32), (32, 16), (32, 32))[index]

    def load(self, index: int, targets: Any = None) -> Sample:
        return Sample(self.ids[index], np.zeros((*self.size(index), 3), np.uint8))


@pytest.fixture
def joint(backbone: Any, cache: Path, tmp_path: Path) -> JointTraining:
    """Of one global task computed from the image, and a head that predicts the column."""
    bound = binding(source="image")
    data = Source(Shapes(), CANVAS, (View(),))
    images, [rows] = cache_images(data, [bound], SilentProgress())
    tasks = {"whole": JointTask(bound, Columns(), *rows)}
    settings = TrainSettings(1, 3, 0.1, 0)
    return JointTraining(backbone, tasks, images, ([0, 1, 2], [0, 1, 2]), settings, {}, tmp_path)


class Columns(Head):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, features: Any) -> Any:
        return self.factor * torch.arange(32.0).expand(len(features[0]), 1, 32, 32)


@pytest.mark.parametrize(
    ("view", "blended"),
    [
        (View(), 0),
        (View(flip=True), 0),
        (View(zoom=1.3, offset=(0.1, 0.9)), 6),  # a row at the margin
        (View(flip=True, zoom=1.3, offset=(0.5, 0.2)), 6),
    ],
)
def test_joint_training_computes_from_the_picture_and_not_from_its_margin(
    joint: JointTraining, view: View, blended: float
) -> None:
    """The pictures are black."""
    shown = [view_image(image, CANVAS, view, PADDING) for image in joint.images]
    target, mask = joint._targets(joint.tasks["whole"], range(3), [view] * 3, shown)
    assert target.max() <= blended
    assert mask.flatten(1).any(dim=1).all()
    assert [bool(row.all()) for row in mask] == [False, False, True]


def test_training_scores_what_is_picture(
    joint: JointTraining, backbone: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        Whole, "decode", lambda self, prediction: seen.append(prediction) or prediction[:, 0]
    )
    joint.scores()
    source = Source(Shapes(), CANVAS, (View(),))
    [data] = cache_tasks(backbone, "f" * 64, source, [binding(source="image")], SilentProgress())
    score_head(binding().task, Columns(), data, [0, 1, 2], 3, torch.device("cpu"))
    wide = 31 / 2
    assert [found[:, 0].tolist() for found in seen] == [[wide, 15 / 2, wide]] * 2


def test_only_whole_images_can_be_invalid_in_part() -> None:
    with pytest.raises(ValueError, match="for global tasks"):
        binding(output=OutputSpec(channels=1), zoom="invalid")


def test_views_that_make_a_value_invalid_need_a_value_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"needs target\.invalid"):
        binding(zoom="invalid")


def test_a_number_is_negated_by_a_flip() -> None:
    spec = binding(flip="negate_x").task.spec.target
    assert view_value(np.float32(0.5), View(flip=True), spec, None) == np.float32(-0.5)
