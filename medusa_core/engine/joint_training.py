"""Joint training of a backbone and the heads of several tasks; afterwards it is frozen for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medusa_core.api import TargetSpec
from medusa_core.backbones.timm_backbone import Backbone, pad_to_stride
from medusa_core.data.geometry import Size, View, view_image, view_target
from medusa_core.engine.binding import Binding
from medusa_core.engine.feature_cache import PADDING, as_target
from medusa_core.engine.schedule import batches
from medusa_core.engine.scores import Scores
from medusa_core.engine.training import Training, TrainSettings, head_loss
from medusa_core.heads.base import Head
from medusa_core.model.images import finish, to_tensor

MAX_ZOOM = 1.4
_MASK = TargetSpec(dtype="int64", invalid=0)


@dataclass(frozen=True)
class JointTask:
    """One of the tasks trained together: its head and its cached targets."""

    binding: Binding
    head: Head
    targets: np.ndarray
    valid: np.ndarray


class JointTraining(Training):
    """Backbone and heads on cached images, each shown in a random view."""

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
    ) -> None:
        heads = nn.ModuleDict({f"head_{name}": task.head for name, task in tasks.items()})
        module = nn.ModuleDict({"backbone": backbone, "heads": heads})
        self.device = torch.device(device)
        super().__init__(module.to(self.device), settings, identity, work)
        self.backbone, self.tasks, self.images = backbone, tasks, images
        self.size: Size = (int(images.shape[1]), int(images.shape[2]))
        train, self.selection = parts
        self._rows = batches(train, 1, settings.batch, settings.seed)
        self.fixed_norms = has_folded_norms(backbone)

    def skip(self, steps: int) -> None:
        """Go past batches."""
        for _ in range(steps):
            next(self._rows)

    def loss(self) -> Tensor | None:
        """Weighted sum of the tasks' losses on the next batch."""
        if self.fixed_norms:
            self.backbone.eval()
        rows = next(self._rows)
        views = random_views(len(rows), self.settings.seed, self.step)
        images = [
            view_image(self.images[row], self.size, view, PADDING)
            for row, view in zip(rows, views, strict=True)
        ]
        features = self._features(images)
        losses = []
        for task in self.tasks.values():
            target, valid = self._targets(task, rows, views, images)
            if not valid.any():
                continue
            loss = head_loss(task.binding.task, task.head, features, target, valid, self.size)
            losses.append(task.binding.task.spec.loss_weight * loss)
        return torch.stack(losses).sum() if losses else None

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
        result = {n: Scores(t.binding.task.new_metrics()) for n, t in self.tasks.items()}
        for start in range(0, len(self.selection), self.settings.batch):
            rows = self.selection[start : start + self.settings.batch]
            features = self._features([self.images[row] for row in rows])
            for name, joint in self.tasks.items():
                task = joint.binding.task
                decoded = task.decode(finish(joint.head(features), task, self.size))
                target = as_target(np.stack([joint.targets[row] for row in rows]))
                valid = torch.from_numpy(np.stack([joint.valid[row] for row in rows]).astype(bool))
                result[name].add(decoded, target.to(self.device), valid.to(self.device))
        return result

    def improved(self, figures: Mapping[str, float]) -> bool:
        """By the mean relative change of the primary metrics."""
        changes = []
        for name, joint in self.tasks.items():
            metric = joint.binding.task.spec.primary_metric
            new = figures[f"{name}.{metric.name}"]
            old = self.outcome.best.get(f"{name}.{metric.name}", float("nan"))
            if old == old and new != new:
                return False
            if old == old and old != 0:
                changes.append((new - old) / abs(old) * (1 if metric.higher_is_better else -1))
        return not changes or sum(changes) > 0

    def headline(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The primary metric of every task."""
        keys = [f"{n}.{t.binding.task.spec.primary_metric.name}" for n, t in self.tasks.items()]
        return {key: figures[key] for key in keys}

    def _features(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        batch = to_tensor(np.stack(images)).to(self.device)
        return self.backbone(pad_to_stride(batch, self.backbone.stride, self.backbone.mean))

    def _targets(
        self,
        joint: JointTask,
        rows: Sequence[int],
        views: Sequence[View],
        images: Sequence[np.ndarray],
    ) -> tuple[Tensor, Tensor]:
        binding = joint.binding
        targets, masks = [], []
        for row, view, image in zip(rows, views, images, strict=True):
            target, valid = joint.targets[row], joint.valid[row]
            if binding.dense:
                spec = binding.task.spec.target
                valid = view_target(valid, self.size, view, _MASK, None)
                if binding.from_image:
                    target = binding.computed(image)
                else:
                    target = view_target(target, self.size, view, spec, binding.labels)
            targets.append(target)
            masks.append(valid)
        mask = torch.from_numpy(np.stack(masks).astype(bool))
        return as_target(np.stack(targets)).to(self.device), mask.to(self.device)


def random_views(count: int, seed: int, step: int) -> list[View]:
    """A random view a sample; depends on the arguments alone, so a training can be resumed."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    flip, zoom, y, x = torch.rand(4, count, generator=generator, dtype=torch.float64).tolist()
    return [
        View(flip[i] < 0.5, max(1.0, MAX_ZOOM * zoom[i] + (1 - zoom[i]) * 0.8), (y[i], x[i]))
        for i in range(count)
    ]


def has_folded_norms(backbone: Backbone) -> bool:
    """Whether trained BatchNorm layers were folded: mean 0 and variance 1 with other weights.

    Batch statistics would destroy such a network, so it is trained with these layers fixed.
    Weights of 1 and 0 are those that a fresh network starts with.
    """
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    return (
        bool(norms)
        and all(
            m.running_mean is not None
            and m.running_var is not None
            and not m.running_mean.any()
            and bool((m.running_var == 1).all())
            for m in norms
        )
        and any(not bool(((m.weight == 1) | (m.weight == 0)).all()) for m in norms)
    )
