"""Checks of metrics: figures that add up, and that the target itself satisfies best."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medusa_core.api import Task
from medusa_core.testing.checks import require
from medusa_core.testing.subjects import BATCH, TaskSubject
from medusa_core.testing.target_checks import elsewhere


def figures(task: Task, decoded: Tensor, target: Tensor, valid: Tensor) -> dict[str, float]:
    """Every figure over a batch; quick metrics first."""
    result: dict[str, float] = {}
    for metric in task.new_metrics():
        result |= metric.compute(metric.statistics(decoded, target, valid).double().sum(0))
    return result


def metrics_report_the_spec(subject: TaskSubject) -> None:
    """Together the metrics report every figure of the spec once, as numbers, and no other."""
    task = subject.make()
    target, valid = subject.batch(task)
    decoded = subject.as_decoded(target, valid)
    found: list[str] = []
    for metric in task.new_metrics():
        rows = metric.statistics(decoded, target, valid)
        require(
            rows.ndim == 2 and rows.shape[0] == BATCH and rows.dtype == torch.float64,
            f"{type(metric).__name__}.statistics gives {tuple(rows.shape)} {rows.dtype}, "
            f"({BATCH}, K) float64 is needed: a row an image",
        )
        for name, value in metric.compute(rows.sum(0)).items():
            require(isinstance(value, float), f"figure {name!r} is a {type(value).__name__}")
            found.append(name)
    named = sorted(ref.name for ref in subject.spec.metrics)
    require(sorted(found) == named, f"the metrics report {sorted(found)}, the spec names {named}")


def primary_metric_is_quick(subject: TaskSubject) -> None:
    """The primary figure is of a metric that is not `costly`: trainings choose weights by it."""
    task = subject.make()
    target, valid = subject.batch(task)
    decoded = subject.as_decoded(target, valid)
    costly = [metric for metric in task.new_metrics() if metric.costly]
    primary = subject.spec.primary_metric.name
    for metric in costly:
        names = metric.compute(metric.statistics(decoded, target, valid).sum(0))
        require(
            primary not in names,
            f"{type(metric).__name__} is costly and has the primary figure {primary!r}",
        )


def metrics_prefer_the_target(subject: TaskSubject) -> None:
    """No figure of the target itself is worse than that of a prediction made by chance."""
    task = subject.make()
    target, valid = subject.batch(task)
    perfect = figures(task, subject.as_decoded(target, valid), target, valid)
    chance = figures(task, task.decode(subject.prediction(task)), target, valid)
    for ref in subject.spec.metrics:
        best, other = perfect[ref.name], chance[ref.name]
        require(math.isfinite(best), f"{ref.name} of the target itself is {best}")
        ahead = best - other if ref.higher_is_better else other - best
        require(
            ahead > 0 if ref.primary else ahead >= 0 or math.isnan(other),
            f"{ref.name} is {best:.4g} for the target itself and {other:.4g} for a prediction by "
            f"chance, although {'higher' if ref.higher_is_better else 'lower'} is better",
        )


def metrics_add_up(subject: TaskSubject) -> None:
    """Statistics of an image do not depend on the batch it is in, so that any sharding agrees."""
    task = subject.make()
    target, valid = subject.batch(task)
    decoded = task.decode(subject.prediction(task))
    for metric in task.new_metrics():
        whole = metric.statistics(decoded, target, valid)
        single = [
            metric.statistics(decoded[i : i + 1], target[i : i + 1], valid[i : i + 1])
            for i in range(BATCH)
        ]
        require(
            torch.allclose(whole, torch.cat(single), rtol=1e-9, atol=1e-6),
            f"{type(metric).__name__}: the statistics of an image depend on its batch",
        )


def metrics_weigh_pixels(subject: TaskSubject) -> None:
    """Images side by side count as one and the other: statistics are sums over pixels, not means.

    Within a quarter, since figures may look across the seam; those of `costly` metrics, which match
    over distances, are not asked.
    """
    if not subject.dense:
        return
    task = subject.make()
    target, valid = subject.batch(task)
    perfect, chance = subject.as_decoded(target, valid), task.decode(subject.prediction(task))
    parts = (torch.stack([perfect[0], chance[1]]), target[:2], valid[:2])
    left, right = ([part[order] for part in parts] for order in ([0, 1, 0], [0, 1, 1]))
    wide = [torch.cat(pair, dim=-1) for pair in zip(left, right, strict=True)]
    for metric in (metric for metric in task.new_metrics() if not metric.costly):
        name = type(metric).__name__
        once = metric.statistics(left[0], left[1], left[2])[:2].sum(0)
        good, bad, mixed = metric.statistics(wide[0], wide[1], wide[2])
        largest = float(once.abs().max())
        require(
            torch.allclose(good + bad, 2 * once, rtol=0.25, atol=0.05 * largest + 1e-6),
            f"{name}: an image of twice the size does not count for two: "
            "statistics are sums, `compute` divides",
        )
        require(
            torch.allclose(mixed, (good + bad) / 2, rtol=0.25, atol=0.02 * largest + 1e-6),
            f"{name}: two images side by side count for something else than one and the other: "
            "statistics are sums over pixels, `compute` takes roots and the like",
        )


def metrics_keep_nothing(subject: TaskSubject) -> None:
    """`compute` depends on its argument alone: statistics of other processes are added to it."""
    task = subject.make()
    target, valid = subject.batch(task)
    decoded = task.decode(subject.prediction(task))
    for used, fresh in zip(task.new_metrics(), task.new_metrics(), strict=True):
        total = used.statistics(decoded, target, valid).double().sum(0)
        first = repr(fresh.compute(total))  # before anything that they share sees more
        used.statistics(decoded, target, valid)
        same = repr(used.compute(total)) == first
        require(same, f"{type(used).__name__}: its figures depend on what it has seen before")


def metrics_ignore_what_is_invalid(subject: TaskSubject) -> None:
    """What targets and predictions hold at invalid pixels does not show in any figure."""
    task = subject.make()
    target, valid = subject.batch(task)
    valid = valid.clone()
    valid[1] = False
    decoded = task.decode(subject.prediction(task))
    mask = valid if valid.ndim == target.ndim else valid.unsqueeze(1)
    other = torch.where(mask, target, elsewhere(target))
    swapped = torch.where(mask, decoded, decoded.roll(1, dims=0))
    for metric in task.new_metrics():
        name = type(metric).__name__
        rows = metric.statistics(decoded, target, valid)
        require(not rows[1].any(), f"{name}: an image without a valid pixel is not all zeros")
        again = metric.statistics(swapped, other, valid)
        require(torch.equal(rows, again), f"{name}: pixels that are not valid are counted")


def metrics_of_nothing_are_nan(subject: TaskSubject) -> None:
    """Where nothing was counted every figure is NaN, and nothing is raised."""
    task = subject.make()
    target, valid = subject.batch(task)
    nothing = torch.zeros_like(valid)
    counted = figures(task, task.decode(subject.prediction(task)), target, nothing)
    wrong = {name: value for name, value in counted.items() if not math.isnan(value)}
    require(not wrong, f"where nothing was counted, figures are {wrong}, not NaN")
