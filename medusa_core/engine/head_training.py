"""Training one head on cached features. Nothing else is touched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medusa_core.api import Task
from medusa_core.engine.balancing import Fixed
from medusa_core.engine.cuda_graphs import Outputs
from medusa_core.engine.feature_cache import CachedTask
from medusa_core.engine.outcome import TrainSettings
from medusa_core.engine.schedule import batches
from medusa_core.engine.scores import Scores, better, selection_metrics
from medusa_core.engine.training import Training, as_judged, has_loss, outputs_loss
from medusa_core.heads.base import Head
from medusa_core.plugin_host.attribution import head_output, training_outputs


class HeadTraining(Training):
    """A head, its cached inputs, and the samples to train on and to choose weights by."""

    def __init__(
        self,
        task: Task,
        head: Head,
        data: CachedTask,
        parts: tuple[list[int], list[int]],
        settings: TrainSettings,
        identity: Mapping[str, Any],
        work: Path,
        device: str = "cpu",
    ) -> None:
        balance = Fixed({task.spec.name: 1.0})
        super().__init__(head, settings, identity, work, balance, device)
        self.task, self.head, self.data = task, head, data
        train, self.selection = parts
        self._rows = batches(train, len(data.source.views), settings.batch, settings.seed)
        self._outputs = Outputs(
            [head], lambda *levels: {task.spec.name: training_outputs(head, list(levels))}
        )

    def skip(self, steps: int) -> None:
        """Go past batches."""
        for _ in range(steps):
            next(self._rows)

    def losses(self) -> dict[str, Tensor]:
        """Loss of the next batch."""
        features, target, valid = self.data.batch(next(self._rows))
        if not has_loss(self.task, valid):
            return {}
        name = self.task.spec.name
        outputs = self.predicted(self._outputs, [level.to(self.device) for level in features])
        target, valid = target.to(self.device), valid.to(self.device)
        return {name: outputs_loss(self.task, outputs[name], target, valid)}

    def figures(self) -> dict[str, float]:
        """Scores on the selection part."""
        scores = score_head(
            self.task, self.head, self.data, self.selection, self.settings.batch, self.device
        )
        return scores.figures()

    def improved(self, figures: Mapping[str, float]) -> bool:
        """By the primary metric; the latest, as long as there is nothing to choose by."""
        name = self.task.spec.primary_metric.name
        old = self.outcome.best.get(name, math.nan)
        if math.isnan(old) and math.isnan(figures[name]):
            return True
        return better(self.task.spec, figures[name], old)

    def headline(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The primary metric."""
        name = self.task.spec.primary_metric.name
        return {name: figures[name]}


@torch.inference_mode()
def score_head(
    task: Task,
    head: Head,
    data: CachedTask,
    samples: Sequence[int],
    batch: int,
    device: torch.device,
) -> Scores:
    """Statistics of a head over cached samples, in their first view."""
    head.eval()
    scores = Scores(selection_metrics(task))
    for start in range(0, len(samples), batch):
        rows = [sample * len(data.source.views) for sample in samples[start : start + batch]]
        features, target, valid = data.batch(rows)
        raw = head_output(head, [level.to(device) for level in features])
        prediction, counts = as_judged(raw, task, valid.to(device))
        scores.add(task.decode(prediction), target.to(device), counts)
    return scores
