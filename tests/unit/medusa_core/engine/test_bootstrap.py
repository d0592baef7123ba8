"""Intervals over resamples of images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.engine.bootstrap import interval, paired_difference, resampled_figures
from medusa_core.engine.scores import Scores


class Mean(Metric):
    """The mean of the decoded values, so that the theory of its bootstrap is known."""

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return torch.stack([decoded.double(), torch.ones(len(decoded)).double()], dim=1)

    def compute(self, total: Tensor) -> dict[str, float]:
        return {"mean": float(total[0] / total[1])}


def scores(values: Tensor) -> Scores:
    found = Scores([Mean()])
    found.add(values, values, values > -math.inf)
    return found


def test_the_same_scores_differ_by_nothing() -> None:
    some = scores(torch.randn(40, generator=torch.Generator().manual_seed(0)))
    assert paired_difference(some, some, "mean", draws=100) == (0.0, (0.0, 0.0))


def test_a_constant_difference_has_no_width() -> None:
    values = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    difference, (low, high) = paired_difference(
        scores(values + 0.5), scores(values), "mean", draws=100
    )
    assert difference == pytest.approx(0.5)
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)


def test_the_spread_is_that_of_the_mean() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = torch.tensor(resampled_figures(scores(values), "mean", 2000, seed=1))
    assert float(draws.std()) == pytest.approx(float(values.std()) / 20, rel=0.1)
    low, high = interval(draws.tolist())
    assert low < float(values.mean()) < high
    assert high - low == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.15)


def test_other_images_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="3 images against 4"):
        paired_difference(scores(torch.zeros(3)), scores(torch.zeros(4)), "mean")


def test_nothing_to_draw_from() -> None:
    assert all(math.isnan(end) for end in interval([math.nan]))
