"""Scores of heads on a data set: every image at its own size, one backbone pass for all heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from medusa_core.api import Dataset
from medusa_core.engine.binding import Binding
from medusa_core.engine.feature_cache import as_target
from medusa_core.engine.scores import Scores
from medusa_core.errors import DataError
from medusa_core.model.images import undo_zoom
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.progress import Progress


@dataclass
class HeadScores:
    """A head's statistics.

    missing: how many images had no target for it. seen: whether it was trained on such images.
    """

    scores: Scores
    missing: int = 0
    seen: bool = False


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
        unusable: takes id → why of samples that cannot be read or used, which are then left out
            for the heads that this concerns; None: such a sample is an error.

    Raises:
        DataError: a sample cannot be read.
    """
    results = {n: HeadScores(Scores(b.task.new_metrics())) for n, b in bindings.items()}
    progress.start(f"Evaluating on {dataset.name} ({dataset.split})", len(dataset))
    for index in range(len(dataset)):
        for image, targets in _read(dataset, index, bindings, unusable):
            wanted = [name for name in targets if targets[name] is not None]
            for name, raw in model.raw_predictions(image, wanted, long_side).items():
                target, binding = targets[name], bindings[name]
                if target is not None:
                    valid = torch.from_numpy(np.asarray(binding.valid(target))[None])
                    decoded = binding.task.decode(raw)
                    if long_side is not None:
                        spec, trained = binding.task.spec, model.require(name).size
                        decoded = undo_zoom(decoded, spec, trained, image.shape[:2], long_side)
                    results[name].scores.add(decoded.cpu(), as_target(target[None]), valid)
            for name in targets.keys() - set(wanted):
                results[name].missing += 1
        progress.advance()
    progress.finish()
    return results


def _read(
    dataset: Dataset,
    index: int,
    bindings: Mapping[str, Binding],
    unusable: dict[str, str] | None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray | None]]]:
    """A sample's image and targets by head; head by head where one of them cannot be used."""
    names = {b.task.spec.target_name for b in bindings.values() if not b.from_image}
    try:
        sample = dataset.load(index, names)
        targets = {name: binding.target(sample) for name, binding in bindings.items()}
    except DataError as err:
        if unusable is None:
            raise
        if len(bindings) == 1:
            unusable[dataset.ids[index]] = err.message
            return
        for name, binding in bindings.items():
            yield from _read(dataset, index, {name: binding}, unusable)
    else:
        yield sample.image, targets
