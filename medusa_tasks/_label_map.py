"""What tasks that give every pixel a class have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medusa_core.api import Metric, Task
from medusa_core.losses import masked_cross_entropy
from medusa_core.metrics import MeanIoU
from medusa_core.viz import draw_swatches, outline, overlay, palette

if TYPE_CHECKING:
    from torch import Tensor

_UNTINTED = frozenset({"background", "void", "unlabelled"})
_LEGEND_SHARE = 0.002
"""Classes on a smaller share of the picture are not in its legend."""


class LabelMapTask(Task):
    """One class a pixel; the classes are those of the labels the task is bound to."""

    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of `(B, C, H, W)` scores and `(B, H, W) int64` classes."""
        return {"cross_entropy": masked_cross_entropy(prediction, target, valid)}

    def new_metrics(self) -> list[Metric]:
        """Pooled intersection over union."""
        return [MeanIoU(self.out_channels)]

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Classes tint the picture; those that cover enough of it are named in a legend."""
        names = self.labels.names if self.labels else ()
        count = len(names) or int(value.max(initial=0)) + 1
        colours = palette(count)
        if self.labels and self.labels.palette:
            colours = np.asarray(self.labels.palette, np.uint8)
        plain = [i for i, name in enumerate(names) if name.lower() in _UNTINTED]
        tinted = (value >= 0) & (value < count) & ~np.isin(value, plain)
        classes = np.where(tinted, value, 0)
        picture = overlay(image, colours[classes], 0.62 * tinted)
        picture = outline(picture, np.where(tinted, value, -1))
        if not names:
            return picture
        share = np.bincount(classes[tinted], minlength=count) / value.size
        shown = [int(i) for i in np.argsort(-share, kind="stable") if share[i] >= _LEGEND_SHARE]
        entries = [(names[i].replace("_", " "), colours[i]) for i in shown]
        return draw_swatches(picture, entries)
