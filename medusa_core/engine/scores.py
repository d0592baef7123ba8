"""Figures of a task from summed statistics; which of two scores is better."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medusa_core.api import Metric, Task, TaskSpec
from medusa_core.engine.binding import Binding
from medusa_core.engine.feature_cache import as_target
from medusa_core.engine.training import as_judged
from medusa_core.errors import PluginError

_SMALL = (32, 32)


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


def require_figures(binding: Binding, selection: bool = False) -> None:
    """Refuse, before any work, a task whose metrics do not give the figures that it declares.

    Its metrics are asked about one small image without a valid pixel.

    Args:
        binding: the task.
        selection: whether weights will be chosen by its primary metric.

    Raises:
        PluginError: says which figure is missing.
    """
    task = binding.task
    blank, mask = binding.missing(_SMALL)
    raw, pixels = torch.zeros(1, task.out_channels, *_SMALL), torch.from_numpy(mask[None])
    prediction, valid = as_judged(raw, task, pixels)
    target, decoded = as_target(blank[None]), task.decode(prediction)

    def figures(metrics: Sequence[Metric]) -> set[str]:
        rows = (m.statistics(decoded, target, valid).double().sum(dim=0) for m in metrics)
        return {name for m, row in zip(metrics, rows, strict=True) for name in m.compute(row)}

    given = figures(task.new_metrics())
    missing = [ref.name for ref in task.spec.metrics if ref.name not in given]
    if missing:
        raise PluginError(
            f"{_who(task)} declares {', '.join(missing)}; no metric of it gives that."
        )
    primary = task.spec.primary_metric.name
    if selection and primary not in figures(selection_metrics(task)):
        raise PluginError(
            f"{_who(task)} has the primary metric {primary!r}, which is marked as costly: "
            "trainings leave it out, and could not choose weights by it."
        )


def _who(task: Task) -> str:
    provider = getattr(task, "provider", None)
    return f"Task {task.spec.name!r}" + (f" of {provider}" if provider else "")


def better(task: TaskSpec, new: float, old: float | None) -> bool:
    """Whether the primary metric improved. NaN never does."""
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old if task.primary_metric.higher_is_better else new < old
