"""Figures of a task from summed statistics; which of two scores is better."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medusa_core.api import Metric, Task, TaskSpec


class Scores:
    """Statistics of single images, for every metric of a task, and the figures of their sum."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = list(metrics)
        self.rows: list[list[Tensor]] = [[] for _ in self.metrics]

    def add(self, decoded: Tensor, target: Tensor, valid: Tensor) -> None:
        """Count a batch of decoded predictions."""
        for rows, metric in zip(self.rows, self.metrics, strict=True):
            rows.append(metric.statistics(decoded, target, valid).double().cpu())

    def extend(self, other: Scores) -> None:
        """Append the images counted by another."""
        for mine, theirs in zip(self.rows, other.rows, strict=True):
            mine += theirs

    def __len__(self) -> int:
        return sum(len(row) for row in self.rows[0]) if self.rows else 0

    def statistics(self) -> list[Tensor]:
        """A metric: `(images, K) float64`."""
        return [torch.cat(rows) for rows in self.rows]

    def figures(self, images: Tensor | None = None) -> dict[str, float]:
        """Every figure of the task, over all images or over some of them (repeats allowed).

        Args:
            images: `(n,) int64` indices.
        """
        result: dict[str, float] = {}
        for metric, rows in zip(self.metrics, self.statistics(), strict=True):
            chosen = rows if images is None else rows[images]
            result |= metric.compute(chosen.sum(dim=0))
        return result


def selection_metrics(task: Task) -> list[Metric]:
    """The metrics that are quick enough to be computed again and again while a head trains."""
    return [metric for metric in task.new_metrics() if not metric.costly]


def better(task: TaskSpec, new: float, old: float | None) -> bool:
    """Whether the primary metric improved. NaN never does."""
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old if task.primary_metric.higher_is_better else new < old
