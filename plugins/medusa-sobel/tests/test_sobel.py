import numpy as np
import pytest
import torch
from medusa_sobel import plugin
from medusa_sobel.plugin import SOBEL
from medusa_sobel.task import Sobel

from medusa_core.testing import task_checks


@pytest.fixture
def task() -> Sobel:
    return Sobel(SOBEL)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)


@task_checks(plugin)
def test_sobel_keeps_the_contract(check) -> None:
    check()


def test_a_flat_image_has_no_edges_and_a_step_has_strength_one(task: Sobel) -> None:
    flat = np.full((6, 8, 3), 77, np.uint8)
    assert np.allclose(task.encode_target(None, flat), 0, atol=1e-6)
    step = flat.copy()
    step[:, :4], step[:, 4:] = 0, 255
    target = task.encode_target(None, step)
    assert np.allclose(target[:, 3:5], 1, atol=1e-5)
    assert np.allclose(target[:, [0, 1, 2, 5, 6, 7]], 0, atol=1e-6)


def test_the_target_follows_flips_and_a_quarter_turn(task: Sobel, image: np.ndarray) -> None:
    target = task.encode_target(None, image)
    assert target.shape == image.shape[:2]
    assert target.dtype == np.float32
    assert (target >= 0).all()
    assert (target <= 1).all()
    for turn in (np.fliplr, np.flipud, np.rot90):
        assert np.allclose(task.encode_target(None, turn(image)), turn(target), atol=1e-6)


def test_loss_and_metric_are_zero_for_the_target_itself(task: Sobel, image: np.ndarray) -> None:
    target = torch.from_numpy(task.encode_target(None, image))[None].clamp(1e-4, 1 - 1e-4)
    valid = torch.ones_like(target, dtype=torch.bool)
    logits = target.logit()[:, None]
    assert sum(task.loss(logits, target, valid).values()) < 1e-6
    (metric,) = task.new_metrics()
    assert metric.compute(metric.statistics(task.decode(logits), target, valid)[0])["mae"] < 1e-6
