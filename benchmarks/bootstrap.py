"""Paired bootstrap over images, from the additive statistics of the metrics."""

from __future__ import annotations

import math

import torch

from medusa_core.engine.scores import Scores


def resampled_figures(scores: Scores, figure: str, draws: int, seed: int) -> list[float]:
    """A figure of each of `draws` resamples of the images; equal seeds draw equal images."""
    count = len(scores)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(draws, count, dtype=torch.float64)
    for row in weights:
        chosen = torch.randint(count, (count,), generator=generator)
        row.scatter_add_(0, chosen, torch.ones(count, dtype=torch.float64))
    for metric, statistics in zip(scores.metrics, scores.statistics(), strict=True):
        totals = weights @ statistics
        if figure in metric.compute(totals[0]):
            return [metric.compute(total)[figure] for total in totals]
    raise KeyError(figure)


def interval(values: list[float], share: float = 0.95) -> tuple[float, float]:
    """The central interval that holds this share of the values; NaN are left out."""
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return math.nan, math.nan
    tail = (1 - share) / 2
    low, high = (ordered[round(p * (len(ordered) - 1))] for p in (tail, 1 - tail))
    return low, high


def paired_difference(
    first: Scores, second: Scores, figure: str, draws: int = 2000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """First - second, and its 95 % interval over resamples of the same images."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} images against {len(second)}")
    pairs = zip(
        resampled_figures(first, figure, draws, seed),
        resampled_figures(second, figure, draws, seed),
        strict=True,
    )
    difference = first.figures()[figure] - second.figures()[figure]
    return difference, interval([a - b for a, b in pairs])
