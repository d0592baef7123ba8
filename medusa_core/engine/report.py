"""A picture of how a training went: its curve, and predictions beside what they should be."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medusa_core.api import Sample, Task
from medusa_core.data.geometry import IDENTITY, view_image
from medusa_core.engine.cache_pass import PADDING
from medusa_core.engine.datasets import spread
from medusa_core.engine.feature_cache import CachedTask
from medusa_core.engine.outcome import Outcome
from medusa_core.engine.training import as_judged
from medusa_core.heads.base import Head
from medusa_core.plugin_host.attribution import head_output
from medusa_core.viz import curve, panel

MAX_PICTURES = 4
CELL = (200, 260)


def training_report(
    name: str, task: Task, head: Head, data: CachedTask, selection: Sequence[int], outcome: Outcome
) -> bytes:
    """A PNG: learning curves, then image, prediction and target of a few selection samples."""
    metric = task.spec.primary_metric
    unit = f" ({metric.unit})" if metric.unit else ""
    plots = [
        (_plot(outcome, "loss", f"{name}: training loss"), ""),
        (_plot(outcome, metric.name, f"{name}: {metric.name}{unit} on the selection split"), ""),
    ]
    shown = [_row(task, head, data, i) for i in spread(selection, MAX_PICTURES)]
    pictures = [list(chain(*shown[i : i + 2])) for i in range(0, len(shown), 2)]
    return _png(_stack(panel([plots]), panel(pictures, cell=CELL)))


def joint_report(tasks: Mapping[str, Task], outcome: Outcome) -> bytes:
    """A PNG: the loss and the selection figure of every task of a joint training, task by task.

    Beside the sum of the losses stand their weights where these are learned, or the learning rate.
    """
    steps = [record for record in outcome.log if record["event"] == "step"]
    span = (0.0, max((p["step"] for p in outcome.curve), default=1.0))

    def plot(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> np.ndarray:
        return curve(series, title=title, x_label="step", size=(240, 560), x_range=span)

    if outcome.balance.get("method", "fixed") == "fixed":
        beside = plot("learning rate", {"": [(r["step"], r["lr"]) for r in steps]})
    else:
        weights = {name: [(r["step"], r["weights"][name]) for r in steps] for name in tasks}
        beside = plot("weights of the losses", weights)
    rows = [[plot("training loss", {"": [(r["step"], r["loss"]) for r in steps]}), beside]]
    for name, task in tasks.items():
        metric = task.spec.primary_metric
        unit = f" ({metric.unit})" if metric.unit else ""
        better = "higher" if metric.higher_is_better else "lower"
        losses = [(r["step"], r["losses"][name]) for r in steps if name in r["losses"]]
        scores = [(p["step"], p[f"{name}.{metric.name}"]) for p in outcome.curve]
        kept = [point for point in scores if point[0] == outcome.best_step]
        rows.append(
            [
                plot(f"{name}: training loss", {"": losses}),
                plot(
                    f"{name}: selection {metric.name}{unit}, {better} is better",
                    {"": scores, f"kept: {kept[0][1]:.4g}" if kept else "kept": kept},
                ),
            ]
        )
    return _png(panel([[(picture, "") for picture in row] for row in rows]))


def _plot(outcome: Outcome, figure: str, title: str) -> np.ndarray:
    points = [(point["step"], point[figure]) for point in outcome.curve]
    return curve({figure: points}, title=title, x_label="step", size=(280, 780))


@torch.inference_mode()
def _row(task: Task, head: Head, data: CachedTask, index: int) -> list[tuple[np.ndarray, str]]:
    sample: Sample = data.source.dataset.load(index, [task.spec.target_name])
    image = view_image(sample.image, data.source.size, IDENTITY, PADDING)
    features, target, valid = data.batch([index * len(data.source.views)])
    device = next(head.parameters()).device
    raw = head_output(head, [level.to(device) for level in features])
    prediction, counts = as_judged(raw, task, valid.to(device))
    value = task.decode(prediction)[0].cpu().numpy()
    pictures = beside_target(task, image, value, target, counts.cpu())
    return [(image, sample.id), *zip(pictures, ("prediction", "target"), strict=True)]


def beside_target(
    task: Task, image: np.ndarray, value: np.ndarray, target: Tensor, valid: Tensor
) -> list[np.ndarray]:
    """A prediction and its target as the task draws them: maps of quantities by one scale.

    Args:
        task: draws.
        image: `(H, W, 3) uint8`.
        value: `(H, W)` or `(C, H, W)`, `()` or `(C,)` if global, as decoded.
        target: `(1, H, W)` or `(1, C, H, W)`, `(1,)` or `(1, C)` if global, as losses get it.
        valid: `(1, H, W) bool`, `(1,) bool` if global.

    Returns:
        Two pictures `(H, W, 3) uint8`. Those of quantities are drawn as one of twice the width, so
        that equal colours are equal values; a scale in its corner is on the first. Each goes on for
        a pixel as it was, so that outlines know nothing of the other.
    """
    expected = _as_value(task, target[0].numpy(), valid[0].numpy())
    if value.ndim < 2 or value.dtype.kind != "f":
        return [task.render(image, value), task.render(image, expected)]
    width = image.shape[1]
    columns = np.minimum(np.arange(width + 1), width - 1)
    columns = np.concatenate([columns, width + width - 1 - columns[::-1]])
    both = np.concatenate([value, expected.astype(value.dtype)], axis=-1)[..., columns]
    wide = task.render(np.concatenate([image, image], axis=1)[:, columns], both)
    return [wide[:, :width], wide[:, -width:]]


def _as_value(task: Task, target: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """A target as predictions are decoded, something unknown where it is not valid."""
    if target.dtype.kind != "i":
        return target
    classes = task.spec.output.activation == "argmax"
    value = np.where(valid, target, -1 if classes else 0)
    return value if classes else value.astype(np.float32)


def _png(sheet: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    return buffer.getvalue()


def _stack(*sheets: np.ndarray) -> np.ndarray:
    width = max(sheet.shape[1] for sheet in sheets)
    padded = [
        np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in sheets
    ]
    return np.concatenate(padded)
