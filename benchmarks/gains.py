"""Δ against reference networks, and the difference of two methods with its intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import stdtrit

from medusa_core.api import MetricRef
from medusa_core.engine.bootstrap import interval, resampled_figures
from medusa_core.engine.scores import Scores
from medusa_core.metrics import relative_gain

DRAWS = 400
"""Resamples of the images; every method's are of the same images."""


@dataclass(frozen=True)
class Judged:
    """What a method reaches at a task: its figures, and the one it is judged by a resample."""

    figures: Mapping[str, float]
    resampled: Sequence[float]


Run = Mapping[str, Judged]
"""Task → how it is done on *val*, of one method with one seed."""


def judged(scores: Scores, figure: str) -> Judged:
    """Figures of scores, in six digits."""
    figures = {name: rounded(value) for name, value in scores.figures().items()}
    return Judged(figures, [rounded(v) for v in resampled_figures(scores, figure, DRAWS, seed=0)])


def rounded(value: float) -> float:
    """Six significant digits: more than any difference that could be told."""
    return float(f"{value:.6g}")


@dataclass(frozen=True)
class Difference:
    """Of two methods, in points of Δ, first - second.

    seeds: one value a seed. over_seeds: 95 % interval of their mean (Student's t).
    over_images: 95 % interval over resamples of the images, networks as they are.
    """

    mean: float
    seeds: tuple[float, ...]
    over_seeds: tuple[float, float]
    over_images: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Methods and their reference on the same tasks, images and seeds.

    runs: method → its run with each seed. reference: the same for single-task networks.
    """

    metrics: Mapping[str, MetricRef]
    runs: Mapping[str, Sequence[Run]]
    reference: Sequence[Run]

    def figures(self, runs: Sequence[Run], task: str) -> list[float]:
        """The figure of a task, a seed."""
        return [run[task].figures[self.metrics[task].name] for run in runs]

    def gains(self, method: str, without: str | None = None) -> list[float]:
        """Δ in percent, a seed, over all tasks or all but one."""
        tasks = [task for task in self.metrics if task != without]
        found = {task: self.figures(self.runs[method], task) for task in tasks}
        wanted = {task: self.figures(self.reference, task) for task in tasks}
        return [self._gain(found, wanted, seed) for seed in range(len(self.reference))]

    def difference(self, first: str, second: str) -> Difference:
        """Of the Δ of two methods."""
        pairs = zip(self.gains(first), self.gains(second), strict=True)
        seeds = [a - b for a, b in pairs]
        resampled = zip(self._resampled_gains(first), self._resampled_gains(second), strict=True)
        return Difference(
            statistics.fmean(seeds),
            tuple(seeds),
            t_interval(seeds),
            interval([a - b for a, b in resampled]),
        )

    def as_json(
        self, costs: Mapping[str, Mapping[str, float]], ours: str = "medusa"
    ) -> dict[str, Any]:
        """Figures, Δ (also without each task), costs of every method, and what ours is ahead by."""
        left_out = self.metrics if len(self.metrics) > 1 else ()
        return {
            "metrics": {task: ref.model_dump(mode="json") for task, ref in self.metrics.items()},
            "reference": {task: self.figures(self.reference, task) for task in self.metrics},
            "methods": {
                method: {
                    "figures": {task: self.figures(runs, task) for task in self.metrics},
                    "gains": self.gains(method),
                    "gains_without": {task: self.gains(method, task) for task in left_out},
                    **costs[method],
                }
                for method, runs in self.runs.items()
            },
            f"{ours}_minus": {
                method: asdict(self.difference(ours, method))
                for method in self.runs
                if method != ours
            },
        }

    def _resampled_gains(self, method: str) -> list[float]:
        """Δ, averaged over the seeds, for each of the same resamples of the images."""
        by_seed = [
            [
                self._gain(
                    {task: run[task].resampled for task in self.metrics},
                    {task: reference[task].resampled for task in self.metrics},
                    draw,
                )
                for draw in range(DRAWS)
            ]
            for run, reference in zip(self.runs[method], self.reference, strict=True)
        ]
        return [statistics.fmean(values) for values in zip(*by_seed, strict=True)]

    def _gain(
        self,
        found: Mapping[str, Sequence[float]],
        wanted: Mapping[str, Sequence[float]],
        index: int,
    ) -> float:
        return relative_gain(
            {task: values[index] for task, values in found.items()},
            {task: values[index] for task, values in wanted.items()},
            {task: self.metrics[task].higher_is_better for task in found},
        )


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of a few normal values; infinite for a single one."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return -math.inf, math.inf
    spread = statistics.stdev(values) / math.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, 0.975)) * spread
    return mean - reach, mean + reach
