"""Targets computed from the image: of the picture alone, whatever fills the rest of its canvas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medusa_core.api import MetricRef, OutputSpec, Sample, TargetSpec, Task, TaskSpec
from medusa_core.data.geometry import IDENTITY, View, view_image
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.cache_pass import PADDING
from medusa_core.engine.feature_cache import cache_images
from medusa_core.engine.joint_training import JointTask, JointTraining
from medusa_core.engine.outcome import TrainSettings
from medusa_core.progress import SilentProgress

CANVAS = (64, 96)


class Contrast(Task):
    """How far every pixel is from the mean of the image: it depends on all of it."""

    def encode_target(self, raw: np.ndarray | None, image: np.ndarray) -> np.ndarray:
        grey = image.astype(np.float32).mean(axis=2)
        return grey - grey.mean()

    def loss(self, prediction: Any, target: Any, valid: Any) -> Any:
        return {"l1": (prediction[:, 0] - target)[valid].abs().sum()}

    def new_metrics(self) -> Any:
        return []

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        return image


@pytest.fixture(params=[None, math.nan])
def binding(request: pytest.FixtureRequest) -> Binding:
    spec = TaskSpec(
        name="contrast",
        title="",
        implementation="none:None",
        output=OutputSpec(channels=1),
        target=TargetSpec(source="image", invalid=request.param),
        metrics=(MetricRef(name="mae", higher_is_better=False, primary=True),),
    )
    return Binding(Contrast(spec), None)


class Flat:
    """Grey pictures, higher than their canvas."""

    name, split, digest, ids, targets = "flat", "train", "flat", ("a", "b"), {}

    def __len__(self) -> int:
        return 2

    def size(self, index: int) -> tuple[int, int]:
        return 64, 40

    def load(self, index: int, targets: Any = None) -> Sample:
        return Sample(self.ids[index], np.full((64, 40, 3), 10 + index, np.uint8))


@pytest.mark.parametrize("view", [IDENTITY, View(flip=True), View(zoom=1.3, offset=(0.2, 0.9))])
def test_a_flat_picture_has_no_contrast(binding: Binding, view: View) -> None:
    sample = Flat().load(0)
    shown = view_image(sample.image, CANVAS, view, PADDING)
    found = binding.viewed(sample, shown, CANVAS, view)
    assert found is not None
    target, valid = found
    assert 0 < valid.sum() < valid.size
    assert not target[valid].any()


@pytest.mark.parametrize("view", [IDENTITY, View(flip=True)])
def test_nor_in_joint_training(binding: Binding, view: View, backbone: Any, tmp_path: Any) -> None:
    source = Source(Flat(), CANVAS, (IDENTITY,))
    images, [rows] = cache_images(source, [binding], SilentProgress())
    task = JointTask(binding, None, *rows)
    settings = TrainSettings(1, 2, 1e-3)
    run = JointTraining(backbone, {"contrast": task}, images, ([0, 1], [1]), settings, {}, tmp_path)
    seen = view_image(images[0], CANVAS, view, PADDING)
    target, valid = run._targets(task, [0], [view], [seen])
    assert 0 < valid.sum() < valid.numel()
    assert not target[valid].any()
