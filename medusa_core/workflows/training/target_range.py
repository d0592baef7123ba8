"""How large targets are, told before a head is trained on them: a wrong scale is seen in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from medusa_core.api import Task
from medusa_core.engine.datasets import spread
from medusa_core.engine.feature_cache import CachedTask
from medusa_core.plugin_host.importing import FAILURES
from medusa_core.progress import Progress

IMAGES = 20
"""Of so many images the range of a target is told."""
REACH = 10.0
"""Raw predictions begin near 0, and few trainings take them further."""


def tell(
    task: Task, cached: CachedTask, samples: Sequence[int], far: float, progress: Progress
) -> None:
    """Tell the range of a target that has a unit, and whether predictions may not get there.

    Args:
        task: of the head.
        cached: its targets.
        samples: that are trained on.
        far: how far steps may move a raw prediction in this training.
        progress: is told.
    """
    spec, views = task.spec, len(cached.source.views)
    if spec.target.unit is None:
        return
    rows = [sample * views for sample in spread(samples, IMAGES)]
    values = np.concatenate([_known(cached.targets[row], cached.valid[row]) for row in rows])
    if not values.size:
        return
    low, middle, high = np.percentile(values.astype(np.float32), (0, 50, 100))
    progress.message(
        f"{spec.target_name} of {len(rows)} images: {low:.4g} to {high:.4g} {spec.target.unit}, "
        f"median {middle:.4g}."
    )
    if task.out_channels == 1:
        _tell_reach(task, float(middle), max(REACH, far), progress)


def _known(target: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The numbers of a cached target that count; `valid` is a map, of a global target, too."""
    dense = target.shape[:2] == valid.shape
    numbers: np.ndarray = target[valid != 0] if dense else np.repeat(target, int(valid.any()))
    return numbers.ravel()


def _tell_reach(task: Task, middle: float, far: float, progress: Progress) -> None:
    """Where numbers lie beyond what raw predictions become: a scale is missing."""
    try:
        raw = torch.linspace(-far, far, 41)[:, None]
        maps = raw[..., None, None].repeat(1, 1, 8, 8)
        values = task.decode(maps if task.spec.output.kind == "dense" else raw).double()
    except FAILURES:  # where it matters, training will tell
        return
    values = values[values.isfinite()]
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    slack = 0.1 * (high - low)
    if not low - slack <= middle <= high + slack:
        progress.message(
            f"Raw predictions from {-far:.3g} to {far:.3g} are {low:.4g} to {high:.4g} "
            f"{task.spec.target.unit}: a training may not get them to the median. Have `decode` of "
            f"{task.spec.name} bring them to the scale of its target."
        )
