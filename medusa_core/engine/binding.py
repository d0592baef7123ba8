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
    view_target,
    view_value,
)
from medusa_core.data.targets import as_marked, laid_out, misfit, valid_part
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
            DataError: it has another type or shape than the task's, or values no prediction can
                take.
        """
        if self.from_image:
            return self.computed(sample.image)
        raw = sample.targets.get(self.task.spec.target_name)
        if raw is None:
            return None
        spec = self.task.spec
        raw = as_marked(raw, spec, self.labels).copy()
        target = np.asarray(self.task.encode_target(raw, sample.image.copy()))
        if wrong := misfit(target, sample.image.shape[:2], spec, self.labels):
            raise DataError(
                f"{sample.id}: target {spec.target_name!r} {wrong}.",
                hint="Correct the files, or scale, offset and invalid in dataset.json. Where there "
                "are none: the plugin of the data set, or that of the task.",
            )
        return laid_out(target, spec)

    def computed(self, image: np.ndarray) -> np.ndarray:
        """The target computed from an image. Should the task write to it, that is a copy."""
        return laid_out(self.task.encode_target(None, image.copy()), self.task.spec)

    def valid(self, target: np.ndarray) -> np.ndarray:
        """`(H, W) bool` where a dense target counts; `() bool` for a global one."""
        return valid_part(target, self.task.spec, self.labels)

    def viewed(
        self, sample: Sample, shown: np.ndarray, canvas: Size, view: View
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Target and valid mask as a view shows them; None where the sample lacks the target.

        The mask is `(*canvas) bool` for global tasks, too: all that is picture, where the value
        counts.

        Args:
            sample: the sample as loaded.
            shown: `(*canvas, 3) uint8`, the image as the view shows it.
            canvas: (H, W).
            view: the view.
        """
        height, width = place(sample.image.shape[:2], canvas, view).size
        inside = np.zeros(canvas, bool)
        inside[:height, :width] = True
        if self.from_image:
            target = self.computed(shown[:height, :width])  # no edge of what is no picture
            if self.dense:
                target = self.laid_on(canvas, (slice(height), slice(width)), target)
            return target, inside & self.valid(target)
        whole = self.target(sample)
        if whole is None:
            return None
        if self.dense:
            target = view_target(whole, canvas, view, self.task.spec.target, self.labels)
        else:
            target = self.moved(whole, view)
        return target, inside & self.valid(target)

    def moved(self, target: np.ndarray, view: View) -> np.ndarray:
        """A global target as a view changes it."""
        return view_value(target, view, self.task.spec.target, self.labels)

    def laid_on(self, canvas: Size, place: tuple[slice, slice], target: np.ndarray) -> np.ndarray:
        """A map at a place of a canvas, invalid elsewhere."""
        whole, _ = self.missing(canvas)
        whole[place] = target
        return whole

    def missing(self, canvas: Size) -> tuple[np.ndarray, np.ndarray]:
        """Target and valid mask of a sample that lacks the target; see `viewed`."""
        spec = self.task.spec.target
        channels = () if spec.channels is None else (spec.channels,)
        shape = (*canvas, *channels) if self.dense else channels
        fill = invalid_value(spec, self.labels)
        return np.full(shape, fill, spec.dtype), np.zeros(canvas, bool)
