"""Paired bootstrap over images, from the additive statistics of the metrics."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.engine.scores import Scores


def resampled_figures(scores: Scores, figure: str, draws: int, seed: int) -> list[float]:
    """A figure of each of `draws` resamples of the images; equal seeds draw equal images."""
    count = len(scores)
    generator = torch.Generator().manual_seed(seed)
    metric, statistics = _source(scores, figure)
    found = []
    for _ in range(draws):
        chosen = torch.randint(count, (count,), generator=generator)
        total = torch.bincount(chosen, minlength=count).double() @ statistics
        found.append(metric.compute(total)[figure])
    return found


def _source(scores: Scores, figure: str) -> tuple[Metric, Tensor]:
    """The metric that gives a figure, and its statistics of the images `(images, K)`."""
    for metric, statistics in zip(scores.metrics, scores.statistics(), strict=True):
        if figure in metric.compute(statistics.sum(dim=0)):
            return metric, statistics
    raise KeyError(figure)


def interval(values: list[float]) -> tuple[float, float]:
    """The central interval that holds 95 % of the values; NaN are left out."""
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return math.nan, math.nan
    low, high = (ordered[round(p * (len(ordered) - 1))] for p in (0.025, 0.975))
    return low, high


def paired_difference(
    first: Scores, second: Scores, figure: str, draws: int = 2000
) -> tuple[float, tuple[float, float]]:
    """First - second, and its 95 % interval over resamples of the same images.

    It tells how far other images of the same kind would move the difference of these two heads,
    not what heads trained with another seed would give.

    Raises:
        ValueError: they are of different numbers of images.
        KeyError: no metric gives the figure.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} images against {len(second)}")
    pairs = zip(
        resampled_figures(first, figure, draws, seed=0),
        resampled_figures(second, figure, draws, seed=0),
        strict=True,
    )
    difference = first.figures()[figure] - second.figures()[figure]
    return difference, interval([a - b for a, b in pairs])
