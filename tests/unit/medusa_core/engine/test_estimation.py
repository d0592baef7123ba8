"""The arithmetic of estimates."""

import math

import pytest
import torch

from medusa_core.api import Metric, MetricRef
from medusa_core.engine.estimation import (
    Evidence,
    extrapolate,
    fits_scale,
    from_scale,
    standard_error,
    to_scale,
)
from medusa_core.engine.scores import Scores

SHARE = MetricRef(name="share", higher_is_better=True, primary=True)
ERROR = MetricRef(name="error", higher_is_better=False, primary=True)


class Mean(Metric):
    """The mean over images of what was decoded."""

    def statistics(self, decoded, target, valid):
        return torch.stack([decoded, torch.ones_like(decoded)], dim=1).double()

    def compute(self, total):
        return {"error": float(total[0] / total[1])}


@pytest.mark.parametrize(("metric", "values"), [(SHARE, (0.1, 0.5, 0.9)), (ERROR, (9.0, 1.0, 0.1))])
def test_the_scale_rises_with_quality_and_is_undone(metric, values):
    positions = [to_scale(metric, value) for value in values]
    assert positions == sorted(positions)
    assert [from_scale(metric, at) for at in positions] == pytest.approx(values)
    assert fits_scale(metric, *values)


def test_what_the_scale_is_not_for():
    assert not fits_scale(SHARE, 0.5, 1.5)
    assert not fits_scale(ERROR, -0.1)
    assert all(math.isfinite(to_scale(SHARE, value)) for value in (0.0, 1.0))
    assert math.isfinite(to_scale(ERROR, 0.0))


def test_a_training_that_is_no_longer_than_the_short_one_gains_nothing():
    middle, width = extrapolate(Evidence(0.0, 1.0, 0.1, 0.0, 0.0))
    assert middle == 1.0
    assert width > 0


def test_more_training_never_lowers_an_estimate_and_widens_its_bar():
    found = [extrapolate(Evidence(0.0, 1.0, 0.1, visits, visits)) for visits in (0, 1, 2, 3)]
    assert [middle for middle, _ in found] == sorted(middle for middle, _ in found)
    assert [width for _, width in found] == sorted(width for _, width in found)


def test_a_loss_between_short_trainings_is_not_extrapolated():
    assert extrapolate(Evidence(1.0, 0.5, 0.1, 3, 3))[0] == 0.5


def test_noise_of_few_images_is_that_of_the_mean():
    values = torch.rand(400, generator=torch.Generator().manual_seed(0)) + 1
    scores = Scores([Mean()])
    scores.add(values, values, values > 0)
    expected = float((values / values.mean()).std()) / 20
    assert standard_error(scores, ERROR, 10**9) == pytest.approx(expected, rel=0.2)
    assert standard_error(scores, ERROR, 400) == 0
    assert standard_error(scores, ERROR, 800) == pytest.approx(expected / 2**0.5, rel=0.2)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_noise_of_very_few_images_is_not_too_small(count):
    """On average, over draws: resamples of n images vary (n - 1) / n as much as images do."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(300):
        values = torch.randn(count, generator=generator).mul(0.01).add(1)
        scores = Scores([Mean()])
        scores.add(values, values, values > 0)
        found.append(standard_error(scores, ERROR, 10**9) ** 2)
    assert sum(found) / len(found) == pytest.approx(0.01**2 / count, rel=0.25)


def test_one_image_tells_little_of_many():
    scores = Scores([Mean()])
    scores.add(torch.ones(1), torch.ones(1), torch.ones(1) > 0)
    assert standard_error(scores, ERROR, 2) == 1
    assert standard_error(scores, ERROR, 1) == 0
