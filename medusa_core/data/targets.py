"""Encoded targets: which of their values count, and whether they are what the task says."""

from __future__ import annotations

import numpy as np

from medusa_core.api import LabelSchema, TaskSpec
from medusa_core.data.geometry import Size, valid_mask, value_is_valid


def valid_part(target: np.ndarray, task: TaskSpec, labels: LabelSchema | None) -> np.ndarray:
    """`(H, W) bool` where a dense target counts; `() bool` for a global one."""
    if task.output.kind == "dense":
        return valid_mask(target, task.target, labels)
    return np.asarray(value_is_valid(target, task.target, labels))


def misfit(
    target: np.ndarray, size: Size, task: TaskSpec, labels: LabelSchema | None
) -> str | None:
    """What is wrong with the target of an image of that size: its shape, or values out of range.

    A prediction cannot take such values: a negative depth would poison the loss.
    """
    dense = task.output.kind == "dense"
    channels = () if task.target.channels is None else (task.target.channels,)
    wanted = (*size, *channels) if dense else channels
    if target.shape != wanted:
        return (
            f"is {target.shape}, task {task.name!r} needs {wanted}: "
            f"one {'a pixel' if dense else 'an image'}"
        )
    return _out_of_range(target[valid_part(target, task, labels)], task)


def _out_of_range(values: np.ndarray, task: TaskSpec) -> str | None:
    bounds = [bound for bound in task.output.range if bound is not None]
    if not bounds:
        return None
    low, high = task.output.range
    slack = 1e-4 * max(map(abs, bounds))
    wrong = np.zeros(values.shape, bool)
    if low is not None:
        wrong |= values < low - slack
    if high is not None:
        wrong |= values > high + slack
    if not wrong.any():
        return None
    return (
        f"holds {wrong.sum()} values such as {values[wrong].flat[0]:g}; those of task "
        f"{task.name!r} lie in [{'−∞' if low is None else low}, {'∞' if high is None else high}]"
    )
