"""What checks of a task find beside the one bug of each, and what they let pass."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from medusa_core.api import TargetSpec
from medusa_core.testing import CheckFailure
from medusa_core.testing.checks import Case
from medusa_core.testing.conformance import TASK_CHECKS
from medusa_core.testing.process import process_kept, settings
from medusa_core.testing.subjects import TaskSubject

from .conftest import with_metric


def run_check(name: str, plugin: Any) -> None:
    """One check of the only task."""
    (check,) = [check for check in TASK_CHECKS if check.name == name]
    Case(check, TaskSubject(plugin, plugin.medusa_register_tasks()[0]))()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: np.random.seed(0), "__init__ seeds the random numbers of numpy"),
        (lambda: random.seed(0), "__init__ seeds the random numbers of random"),
        (lambda: torch.set_default_dtype(torch.float64), "torch's default dtype"),
        (lambda: torch.set_default_device("meta"), "torch's default device"),
        (lambda: torch.set_grad_enabled(False), "whether torch records gradients"),
        (lambda: torch.use_deterministic_algorithms(True), "torch's deterministic mode"),
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "number of threads"),
        (lambda: np.seterr(all="raise"), "what numpy does about errors"),
    ],
)
def test_what_a_task_does_to_the_process_is_named_and_undone(
    change: Any, message: str, variant: Any, good: Any
) -> None:
    class Broken(good[2].Level):  # type: ignore[misc]
        def __init__(self, spec, labels=None, config=None):
            super().__init__(spec, labels, config)
            change()

    before, plugin = settings(), variant(Broken)
    with process_kept():
        run_check("implementation_is_a_task", plugin)
        assert settings() == before
        with pytest.raises(CheckFailure, match=message):
            run_check("task_leaves_the_process_alone", plugin)
        assert settings() == before


def test_a_task_may_draw_random_numbers(variant: Any, good: Any) -> None:
    class Drawing(good[2].Level):  # type: ignore[misc]
        def __init__(self, spec, labels=None, config=None):
            super().__init__(spec, labels, config)
            self.filter = nn.Conv2d(1, 1, 3).requires_grad_(False)

    run_check("task_leaves_the_process_alone", variant(Drawing))


def slope(image: np.ndarray) -> np.ndarray:
    return np.gradient(image.mean(axis=2) / 255, axis=1).astype(np.float32)


@pytest.mark.parametrize("flip", ["none", "negate_x"])
def test_a_target_that_is_zero_nearly_everywhere_must_follow_flips(
    flip: Any, variant: Any, good: Any
) -> None:
    class Sparse(good[2].Level):  # type: ignore[misc]
        def encode_target(self, raw, image):
            steep = slope(image)
            return np.where(np.abs(steep) > np.quantile(np.abs(steep), 0.8), steep, 0)

    plugin = variant(Sparse, target=TargetSpec(source="image", flip=flip))
    if flip == "negate_x":
        run_check("target_follows_flips", plugin)
    else:
        with pytest.raises(CheckFailure, match="in another way"):
            run_check("target_follows_flips", plugin)


@pytest.mark.parametrize("elsewhere", [0.0, -9.0, float("nan")])
@pytest.mark.parametrize("step", [0, 1])
def test_thin_targets_may_lie_a_pixel_beside_the_edge(
    step: int, elsewhere: float, variant: Any, good: Any
) -> None:
    class Edges(good[2].Level):  # type: ignore[misc]
        def encode_target(self, raw, image):
            shown = np.roll(image[..., 0], step, axis=1).astype(np.float32)
            return np.where(shown % 8 == 0, shown / 50, np.float32(elsewhere))

    image = TargetSpec(source="image", invalid=elsewhere or None)
    run_check("target_follows_flips", variant(Edges, target=image))


@pytest.mark.parametrize("invalid", [float("nan"), -9.0])
def test_computed_targets_may_be_unknown_in_places(invalid: float, variant: Any, good: Any) -> None:
    class Partial(good[2].Level):  # type: ignore[misc]
        def encode_target(self, raw, image):
            steep = slope(image)
            return np.where(np.abs(steep) < 1e-4, np.float32(invalid), steep)

    image = TargetSpec(source="image", flip="negate_x", invalid=invalid)
    run_check("target_follows_flips", variant(Partial, target=image))


def test_roots_of_single_images_are_no_sums_over_pixels(variant: Any, good: Any) -> None:
    class Rooted(good[2].MeanError):  # type: ignore[misc]
        def statistics(self, decoded, target, valid):
            wrong = torch.where(valid, decoded.double() - target.double(), 0.0).square()
            pixels = valid.double().sum((1, 2))
            root = (wrong.sum((1, 2)) / pixels.clamp_min(1)).sqrt()
            return torch.stack([root * pixels, pixels], dim=1)

    with pytest.raises(CheckFailure, match="side by side"):
        run_check("metrics_weigh_pixels", variant(with_metric(good[2], Rooted)))


def test_what_all_metrics_of_a_class_have_seen_is_kept_as_well(variant: Any, good: Any) -> None:
    class Counting(good[2].MeanError):  # type: ignore[misc]
        seen = 0

        def statistics(self, decoded, target, valid):
            type(self).seen += 1
            return super().statistics(decoded, target, valid)

        def compute(self, total):
            return {name: x * (1 + self.seen) for name, x in super().compute(total).items()}

    with pytest.raises(CheckFailure, match="seen before"):
        run_check("metrics_keep_nothing", variant(with_metric(good[2], Counting)))


def test_what_a_class_of_tasks_keeps_is_state(variant: Any, good: Any) -> None:
    class Broken(good[2].Level):  # type: ignore[misc]
        losses: ClassVar[list[Any]] = []

        def loss(self, prediction, target, valid):
            self.losses.append(prediction.shape)
            return super().loss(prediction, target, valid)

    with pytest.raises(CheckFailure, match=r"Broken\.losses, which all tasks share"):
        run_check("task_keeps_no_state", variant(Broken))
