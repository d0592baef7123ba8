"""Encoded targets: which of their values count, and whether they are what the task says."""

from __future__ import annotations

import numpy as np

from medusa_core.api import LabelSchema, TaskSpec
from medusa_core.data.geometry import Size, known_values, valid_mask, value_is_valid


def valid_part(target: np.ndarray, task: TaskSpec, labels: LabelSchema | None) -> np.ndarray:
    """`(H, W) bool` where a dense target counts; `() bool` for a global one."""
    if task.output.kind == "dense":
        return valid_mask(target, task.target, labels)
    return np.asarray(value_is_valid(target, task.target, labels))


def as_marked(raw: np.ndarray, task: TaskSpec, labels: LabelSchema | None) -> np.ndarray:
    """A raw target in which NaN, nothing measured in any data set, is the task's own mark.

    For numbers; NaN is no class.
    """
    mark, numbers = task.target.invalid, labels is None and task.target.dtype == "float32"
    if mark is None or not numbers or raw.dtype.kind != "f":
        return raw
    return np.where(np.isnan(raw), raw.dtype.type(mark), raw)


def misfit(
    target: np.ndarray, size: Size, task: TaskSpec, labels: LabelSchema | None
) -> str | None:
    """What is wrong with the target of an image of that size: its type, its shape, or values.

    A prediction cannot take some values: a negative depth would poison the loss.
    """
    if target.dtype.kind not in "biuf":
        return f"is {target.dtype}, task {task.name!r} needs {task.target.dtype}"
    dense = task.output.kind == "dense"
    channels = () if task.target.channels is None else (task.target.channels,)
    wanted = (*size, *channels) if dense else channels
    if target.shape != wanted:
        return (
            f"is {target.shape}, task {task.name!r} needs {wanted}: "
            f"one {'a pixel' if dense else 'an image'}"
        )
    values = laid_out(target, task)
    if values.dtype.kind == "i" and (broken := target[values != target]).size:
        return _strange(broken, task, "are whole numbers")
    known = values[known_values(values, task.target, labels)]
    return _out_of_range(known, bounds(task, labels), task)


def bounds(task: TaskSpec, labels: LabelSchema | None) -> tuple[float | None, float | None]:
    """Smallest and largest value of a target, None where there is none; of classes, numbers."""
    return task.output.range if labels is None else (0, len(labels.names) - 1)


def laid_out(target: np.ndarray, task: TaskSpec) -> np.ndarray:
    """A target in the dtype of its task, rows one after the other."""
    with np.errstate(invalid="ignore"):  # NaN as an integer, which `misfit` tells
        return np.asarray(target, task.target.dtype, order="C")


def _out_of_range(
    values: np.ndarray, within: tuple[float | None, float | None], task: TaskSpec
) -> str | None:
    low, high = within
    slack = 1e-4 * max(abs(low or 0), abs(high or 0))
    wrong = ~np.isfinite(values)
    if low is not None:
        wrong |= values < low - slack
    if high is not None:
        wrong |= values > high + slack
    if not wrong.any():
        return None
    allowed = "are finite"
    if within != (None, None):
        allowed = f"lie in [{'−∞' if low is None else low}, {'∞' if high is None else high}]"
    return _strange(values[wrong], task, allowed)


def _strange(values: np.ndarray, task: TaskSpec, allowed: str) -> str:
    example = f"{values.flat[0]:g}"
    return f"holds {values.size} values such as {example}; those of task {task.name!r} {allowed}"
