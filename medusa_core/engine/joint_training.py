"""Joint training of a backbone and the heads of several tasks; afterwards it is frozen for good."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medusa_core.api import TargetSpec
from medusa_core.backbones.timm_backbone import Backbone, pad_to_stride
from medusa_core.backbones.unfold import has_folded_norms, unfold_norms
from medusa_core.data.geometry import Size, View, view_image, view_target
from medusa_core.engine.balancing import make_balance
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_pass import PADDING
from medusa_core.engine.cuda_graphs import Outputs
from medusa_core.engine.datasets import spread
from medusa_core.engine.feature_cache import as_target
from medusa_core.engine.outcome import TrainSettings
from medusa_core.engine.schedule import batches
from medusa_core.engine.scores import Scores, selection_metrics
from medusa_core.engine.training import Training, as_judged, has_loss, outputs_loss
from medusa_core.heads.base import Head
from medusa_core.model.images import to_tensor
from medusa_core.plugin_host.attribution import head_output, training_outputs

MAX_ZOOM = 1.4
UNFOLD_IMAGES = 64
_MASK = TargetSpec(dtype="int64", invalid=0)


@dataclass(frozen=True)
class JointTask:
    """One of the tasks trained together: its head and its cached targets.

    head: None where a sub-class of `JointTraining` predicts the task by a `decoder`.
    """

    binding: Binding
    head: Head | None
    targets: np.ndarray
    valid: np.ndarray


class JointTraining(Training):
    """Backbone and heads on cached images, each shown in a random view.

    A frozen backbone is not trained; one whose BatchNorm was folded is unfolded first (`unfolded`
    layers). A sub-class may predict all tasks by one coupled `decoder`,
    which is then trained in place of the heads: it overrides `training_outputs` and
    `evaluation_outputs`.
    """

    def __init__(
        self,
        backbone: Backbone,
        tasks: Mapping[str, JointTask],
        images: np.ndarray,
        parts: tuple[list[int], list[int]],
        settings: TrainSettings,
        identity: Mapping[str, Any],
        work: Path,
        device: str = "cpu",
        decoder: nn.Module | None = None,
        balance: str = "fixed",
    ) -> None:
        heads = {f"head_{n}": task.head for n, task in tasks.items() if task.head is not None}
        self.decoder = decoder if decoder is not None else nn.ModuleDict(heads)
        module = nn.ModuleDict({"backbone": backbone, "heads": self.decoder})
        train, self.selection = parts
        weights = {name: task.binding.task.spec.loss_weight for name, task in tasks.items()}
        epoch = math.ceil(len(train) / settings.batch)
        losses = make_balance(balance, weights, epoch)
        identity = {"balance": balance, **identity}
        super().__init__(module, settings, identity, work, losses, device)
        self.backbone, self.tasks, self.images = backbone, tasks, images
        self.size: Size = (int(images.shape[1]), int(images.shape[2]))
        self._rows = batches(train, 1, settings.batch, settings.seed)
        self._outputs = Outputs(
            [module],
            lambda batch: self.training_outputs(self.backbone(batch), list(self.tasks)),
        )
        self.unfolded = 0 if backbone.frozen else unfold(backbone, images, train, settings.batch)

    def training_outputs(
        self, features: Sequence[Tensor], names: Sequence[str]
    ) -> dict[str, list[tuple[float, Tensor]]]:
        """Weighted raw predictions of a training batch, as `Head.training_outputs` gives them.

        Args:
            features: levels of the batch.
            names: tasks with a valid pixel in this batch; the others may be left out.
        """
        return {name: training_outputs(_head(self.tasks[name]), features) for name in names}

    def evaluation_outputs(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Raw prediction of every task."""
        return {name: head_output(_head(task), features) for name, task in self.tasks.items()}

    def skip(self, steps: int) -> None:
        """Go past batches."""
        for _ in range(steps):
            next(self._rows)

    def losses(self) -> dict[str, Tensor]:
        """Loss of every task with a valid pixel in the next batch that it is taken on."""
        rows = next(self._rows)
        views = random_views(len(rows), self.settings.seed, self.step)
        images = [
            view_image(self.images[row], self.size, view, PADDING)
            for row, view in zip(rows, views, strict=True)
        ]
        targets = {n: self._targets(task, rows, views, images) for n, task in self.tasks.items()}
        present = [n for n, (_, v) in targets.items() if has_loss(self.tasks[n].binding.task, v)]
        outputs = self._predictions(as_input(self.backbone, images), present)
        return {
            name: outputs_loss(self.tasks[name].binding.task, outputs[name], *targets[name])
            for name in present
        }

    def _predictions(
        self, batch: Tensor, present: Sequence[str]
    ) -> dict[str, list[tuple[float, Tensor]]]:
        if len(present) == len(self.tasks):
            return self.predicted(self._outputs, [batch])
        with self.precision.predicting():  # not what is recorded
            features = self.backbone(batch)
            return self.training_outputs(features, present) if present else {}

    def figures(self) -> dict[str, float]:
        """Scores of every task on the selection part, as `task.figure`."""
        return {
            f"{name}.{figure}": value
            for name, scores in self.scores().items()
            for figure, value in scores.figures().items()
        }

    @torch.inference_mode()
    def scores(self) -> dict[str, Scores]:
        """Statistics of every task over the selection part."""
        self.module.eval()
        result = {n: Scores(selection_metrics(t.binding.task)) for n, t in self.tasks.items()}
        for start in range(0, len(self.selection), self.settings.batch):
            rows = self.selection[start : start + self.settings.batch]
            features = self._features([self.images[row] for row in rows])
            outputs = self.evaluation_outputs(features)
            for name, joint in self.tasks.items():
                task = joint.binding.task
                target = as_target(np.stack([joint.targets[row] for row in rows]))
                valid = torch.from_numpy(np.stack([joint.valid[row] for row in rows]).astype(bool))
                prediction, counts = as_judged(outputs[name], task, valid.to(self.device))
                result[name].add(task.decode(prediction), target.to(self.device), counts)
        return result

    def improved(self, figures: Mapping[str, float]) -> bool:
        """By the mean of the logarithms of the factors that the primary metrics changed by.

        From or to 0, infinity or the other sign, it is 1 or -1. What was not measured before has
        changed by 1; what no longer is, is no improvement.
        """
        changes = []
        for name, joint in self.tasks.items():
            metric = joint.binding.task.spec.primary_metric
            new = figures[f"{name}.{metric.name}"]
            old = self.outcome.best.get(f"{name}.{metric.name}", float("nan"))
            if old == old and new != new:
                return False
            if new == new and old != old:
                changes.append(1.0)
            elif old == old:
                change = _change(old, new)
                changes.append(change if metric.higher_is_better else -change)
        return not changes or sum(changes) > 0

    def headline(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The primary metric of every task."""
        keys = [f"{n}.{t.binding.task.spec.primary_metric.name}" for n, t in self.tasks.items()]
        return {key: figures[key] for key in keys}

    def _features(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        return self.backbone(as_input(self.backbone, images))

    def _targets(
        self,
        joint: JointTask,
        rows: Sequence[int],
        views: Sequence[View],
        images: Sequence[np.ndarray],
    ) -> tuple[Tensor, Tensor]:
        targets, masks = [], []
        for row, view, image in zip(rows, views, images, strict=True):
            valid = view_target(joint.valid[row], self.size, view, _MASK, None)
            if joint.binding.dense:
                target = _map(joint, row, view, image, valid)
            else:
                target = _value(joint, row, view, image, valid)
            if joint.binding.from_image or not joint.binding.dense:
                valid = valid & joint.binding.valid(target)
            targets.append(target)
            masks.append(valid)
        mask = torch.from_numpy(np.stack(masks).astype(bool))
        return as_target(np.stack(targets)).to(self.device), mask.to(self.device)


def _change(old: float, new: float) -> float:
    """How far a figure rose: of opposite sign the other way, and adding up over several changes."""
    if min(old, new) > 0 and max(old, new) < math.inf:
        return math.log(new) - math.log(old)
    if -math.inf < min(old, new) and max(old, new) < 0:
        return math.log(-old) - math.log(-new)
    return float((new > old) - (new < old))


def _map(
    joint: JointTask, row: int, view: View, image: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """A dense target as a view shows it, computed from what is picture where it is computed."""
    binding, canvas = joint.binding, (image.shape[0], image.shape[1])
    if binding.from_image:
        place = _box(inside)
        if place is None:
            return binding.missing(canvas)[0]
        return binding.laid_on(canvas, place, binding.computed(image[place]))
    spec = binding.task.spec.target
    return view_target(joint.targets[row], canvas, view, spec, binding.labels)


def _value(
    joint: JointTask, row: int, view: View, image: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """A global target as a view shows it, computed from what is picture where it is computed."""
    if not joint.binding.from_image:
        return joint.binding.moved(joint.targets[row], view)
    place = _box(inside)
    return joint.targets[row] if place is None else joint.binding.computed(image[place])


def _box(inside: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns that hold all of a mask; None where it is empty."""
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _head(task: JointTask) -> Head:
    if task.head is None:
        raise ValueError(f"task {task.binding.task.spec.name!r} has no head and no decoder")
    return task.head


def random_views(count: int, seed: int, step: int) -> list[View]:
    """A random view a sample; depends on the arguments alone, so a training can be resumed."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    flip, zoom, y, x = torch.rand(4, count, generator=generator, dtype=torch.float64).tolist()
    return [
        View(flip[i] < 0.5, max(1.0, MAX_ZOOM * zoom[i] + (1 - zoom[i]) * 0.8), (y[i], x[i]))
        for i in range(count)
    ]


def unfold(backbone: Backbone, images: np.ndarray, rows: Sequence[int], batch: int) -> int:
    """Make a backbone trainable whose BatchNorm was folded; see `unfold_norms`.

    Args:
        backbone: changed in place, where it needs it.
        images: `(N, H, W, 3) uint8`, cached.
        rows: those to train on; at most `UNFOLD_IMAGES` of them are measured, evenly spread.
        batch: images at once.

    Returns:
        Number of layers that were given statistics, 0 where none was folded.
    """
    if not has_folded_norms(backbone):
        return 0
    chosen = spread(rows, UNFOLD_IMAGES)
    groups = (chosen[i : i + batch] for i in range(0, len(chosen), batch))
    return unfold_norms(backbone, (as_input(backbone, [images[r] for r in g]) for g in groups))


def as_input(backbone: Backbone, images: Sequence[np.ndarray]) -> Tensor:
    """`(H, W, 3) uint8` images as a padded batch on the device of the backbone."""
    batch = to_tensor(np.stack(images)).to(backbone.mean.device)
    return pad_to_stride(batch, backbone.stride, backbone.mean)
