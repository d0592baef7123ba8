"""Scores of heads on a data set: every image at its own size, one backbone pass for all heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from medusa_core.api import Dataset
from medusa_core.engine.binding import Binding
from medusa_core.engine.feature_cache import as_target
from medusa_core.engine.scores import Scores
from medusa_core.errors import DataError
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.progress import Progress


@dataclass
class HeadScores:
    """A head's statistics, and how many images had no target for it."""

    scores: Scores
    missing: int = 0


@torch.inference_mode()
def evaluate(
    model: MedusaModel,
    dataset: Dataset,
    bindings: Mapping[str, Binding],
    progress: Progress,
    long_side: int | None = None,
    unusable: dict[str, str] | None = None,
) -> dict[str, HeadScores]:
    """Score heads on one data set, at the size of its images.

    Args:
        model: holds the heads.
        dataset: one split.
        bindings: head name → its task, with the classes of this data set.
        progress: counts images.
        long_side: as in `MedusaModel.predict`.
        unusable: takes id → why of samples that cannot be read or used, which are then left out;
            None: such a sample is an error.

    Raises:
        DataError: a sample cannot be read.
    """
    results = {n: HeadScores(Scores(b.task.new_metrics())) for n, b in bindings.items()}
    names = {b.task.spec.target_name for b in bindings.values() if not b.from_image}
    progress.start(f"Evaluating on {dataset.name} ({dataset.split})", len(dataset))
    for index in range(len(dataset)):
        try:
            sample = dataset.load(index, names)
            targets = {name: binding.target(sample) for name, binding in bindings.items()}
        except DataError as err:
            if unusable is None:
                raise
            unusable[dataset.ids[index]] = err.message
            progress.advance()
            continue
        wanted = [name for name in bindings if targets[name] is not None]
        for name, raw in model.raw_predictions(sample.image, wanted, long_side).items():
            target, binding = targets[name], bindings[name]
            if target is not None:
                valid = torch.from_numpy(np.asarray(binding.valid(target))[None])
                decoded = binding.task.decode(raw).cpu()
                results[name].scores.add(decoded, as_target(target[None]), valid)
        for name in bindings.keys() - set(wanted):
            results[name].missing += 1
        progress.advance()
    progress.finish()
    return results
