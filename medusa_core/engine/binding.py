"""Binding a task to a data set: which target, which classes, which pixels count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medusa_core.api import LabelSchema, Sample, Task
from medusa_core.data.geometry import (
    Size,
    View,
    invalid_value,
    place,
    valid_mask,
    value_is_valid,
    view_target,
    view_value,
)
from medusa_core.errors import DataError


@dataclass(frozen=True)
class Binding:
    """A task and the classes that the data set (not the head) uses to number its targets."""

    task: Task
    labels: LabelSchema | None

    @property
    def from_image(self) -> bool:
        """Whether the target is computed from the image."""
        return self.task.spec.target.source == "image"

    @property
    def dense(self) -> bool:
        """Whether the target is a map."""
        return self.task.spec.output.kind == "dense"

    def target(self, sample: Sample) -> np.ndarray | None:
        """The encoded target at the size of the image; None where the sample lacks it.

        Raises:
            DataError: it has another shape than the task's, or values no prediction can take.
        """
        if self.from_image:
            return self.computed(sample.image)
        raw = sample.targets.get(self.task.spec.target_name)
        if raw is None:
            return None
        target = np.asarray(self.task.encode_target(raw.copy(), sample.image.copy()))
        self._check_shape(target, sample)
        self._check_range(target, sample)
        return target

    def _check_shape(self, target: np.ndarray, sample: Sample) -> None:
        spec = self.task.spec
        channels = () if spec.target.channels is None else (spec.target.channels,)
        wanted = (*sample.image.shape[:2], *channels) if self.dense else channels
        if target.shape != wanted:
            raise DataError(
                f"{sample.id}: target {spec.target_name!r} is {target.shape}, task {spec.name!r} "
                f"needs {wanted}: one {'a pixel' if self.dense else 'an image'}.",
            )

    def _check_range(self, target: np.ndarray, sample: Sample) -> None:
        """Refuse values that a prediction cannot take: a negative depth would poison the loss.

        Raises:
            DataError: says which sample and which values.
        """
        spec = self.task.spec
        bounds = [bound for bound in spec.output.range if bound is not None]
        if not bounds:
            return
        low, high = spec.output.range
        slack = 1e-4 * max(map(abs, bounds))
        values = target[self.valid(target)]
        wrong = np.zeros(values.shape, bool)
        if low is not None:
            wrong |= values < low - slack
        if high is not None:
            wrong |= values > high + slack
        if wrong.any():
            raise DataError(
                f"{sample.id}: target {spec.target_name!r} holds {wrong.sum()} values such as "
                f"{values[wrong].flat[0]:g}; those of task {spec.name!r} lie in "
                f"[{'−∞' if low is None else low}, {'∞' if high is None else high}].",
                hint="Correct the files, or scale, offset and invalid in dataset.json.",
            )

    def computed(self, image: np.ndarray) -> np.ndarray:
        """The target computed from an image. Should the task write to it, that is a copy."""
        return np.asarray(self.task.encode_target(None, image.copy()))

    def valid(self, target: np.ndarray) -> np.ndarray:
        """`(H, W) bool` where a dense target counts; `() bool` for a global one."""
        if not self.dense:
            return np.asarray(value_is_valid(target, self.task.spec.target, self.labels))
        return valid_mask(target, self.task.spec.target, self.labels)

    def viewed(
        self, sample: Sample, shown: np.ndarray, canvas: Size, view: View
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Target and valid mask as a view shows them; None where the sample lacks the target.

        Args:
            sample: the sample as loaded.
            shown: `(*canvas, 3) uint8`, the image as the view shows it.
            canvas: (H, W).
            view: the view.
        """
        if self.from_image:
            height, width = place(sample.image.shape[:2], canvas, view).size
            if not self.dense:
                target = self.computed(shown[:height, :width])
                return target, self.valid(target)
            target = self.computed(shown)
            inside = np.zeros(canvas, bool)
            inside[:height, :width] = True
            return target, inside & self.valid(target)
        whole = self.target(sample)
        if whole is None:
            return None
        if not self.dense:
            target = self.moved(whole, view)
            return target, self.valid(target)
        target = view_target(whole, canvas, view, self.task.spec.target, self.labels)
        inside = np.zeros(canvas, bool)
        height, width = place(whole.shape[:2], canvas, view).size
        inside[:height, :width] = True
        return target, inside & self.valid(target)

    def moved(self, target: np.ndarray, view: View) -> np.ndarray:
        """A global target as a view changes it."""
        return view_value(target, view, self.task.spec.target, self.labels)

    def missing(self, canvas: Size) -> tuple[np.ndarray, np.ndarray]:
        """Target and valid mask of a sample that lacks the target."""
        spec = self.task.spec.target
        channels = () if spec.channels is None else (spec.channels,)
        shape = (*canvas, *channels) if self.dense else channels
        fill = invalid_value(spec, self.labels)
        valid = np.zeros(canvas if self.dense else (), bool)
        return np.full(shape, fill, spec.dtype), valid
