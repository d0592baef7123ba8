"""`medusa estimate`: what a head would reach on this backbone, from a few samples, in seconds."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medusa_core.data.geometry import IDENTITY
from medusa_core.engine import estimation
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.datasets import Subset, selection_split, spread
from medusa_core.engine.estimation import Evidence
from medusa_core.engine.feature_cache import CachedTask, cache_tasks
from medusa_core.engine.head_training import HeadTraining, score_head
from medusa_core.engine.outcome import TrainSettings
from medusa_core.engine.scores import Scores
from medusa_core.errors import DataError
from medusa_core.model.assembly import make_head
from medusa_core.model.devices import seeded
from medusa_core.model.opening import restore_backbone
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows import preparation
from medusa_core.workflows.init import as_ensured
from medusa_core.workflows.training.head_plan import Plan, TrainOptions, make_plan, train_options

_NOT_TAKEN = {"views", "tensorboard", "resume", "patience", "smaller_batches", "cuda_graphs"}
"""Options of `add_task` that say nothing of the score, or that short trainings have no use for."""
IMAGES, SELECTION_IMAGES, STEPS = 48, 24, 96
"""Of the second short training; the first has a quarter of its images and steps."""


def estimate(
    task: str,
    *,
    model: str | Path = "medusa-model",
    data: Sequence[str] = (),
    split: str = "train",
    host: Host | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Predict the score that `add_task` would report with the same arguments; train nothing for it.

    Args:
        task: name of an installed task.
        model: a model folder; where it does not exist, what `add_task` would make.
        data: as `--data`.
        split: of the data set.
        host: None: the installed plugins.
        progress: follows what is done.
        **options: how the head would be trained, fields of `TrainOptions` but `views`,
            `tensorboard`, `resume`, `patience`, `smaller_batches` and `cuda_graphs`.

    Returns:
        `estimate`, `low` and `high` of the primary metric on the selection split, how likely the
        truth lies between (`level`), and the short trainings that this is `based_on`.

    Raises:
        DataError: the few samples have nothing to measure by.
        UnknownNameError: no such option, or short trainings do not take it.
        MedusaError: as `add_task`.
    """
    started = time.perf_counter()
    host, progress = host or default_host(), progress or SilentProgress()
    how = train_options("estimate", options, _NOT_TAKEN)
    refs = preparation.parse_data(data)
    name = task.rpartition(":")[2]
    preparation.require_bindings_used(refs, (task, name))
    plan = make_plan(host, name, task, refs, split, how, progress)
    device = preparation.training_device(how.device, how.precision)
    with as_ensured(Path(model)) as place, ModelFolder.open(place) as folder:
        record = folder.manifest.backbone
        backbone = restore_backbone(record, folder.read_backbone()).to(device)
    train, selection = selection_split(plan.dataset)
    few, kept = spread(train, IMAGES), spread(selection, SELECTION_IMAGES)
    source = Source(Subset(plan.dataset, [*few, *kept]), plan.size, (IDENTITY,))
    binding = Binding(plan.task, plan.labels)
    [cached] = cache_tasks(backbone, record.fingerprint, source, [binding], progress)
    labelled = cached.labelled()
    known, judges = [i for i in labelled if i < len(few)], [i for i in labelled if i >= len(few)]
    if not known or not judges:
        raise _too_few(plan, len(few) + len(kept))
    there = round(len(train) * len(known) / len(few))
    if how.epochs is not None:
        plan = replace(plan, steps=preparation.count_steps(None, how.epochs, 1, there, how.batch))
    runs: list[dict[str, Any]] = []
    for part in (estimation.STEP, 1):
        images = spread(known, max(1, len(known) // part))
        steps = max(1, min(STEPS, plan.steps) // part)
        parts = images, judges
        scores = _short(host, plan, backbone.info, cached, parts, steps, how, device, progress)
        runs.append({"images": len(images), "steps": steps, "scores": scores})
    ratios = (plan.steps / runs[1]["steps"], len(train) / len(few))
    result = _estimated(plan, runs, ratios, len(selection))
    return {
        "task": task,
        "head": plan.ref.model_dump(mode="json"),
        "model": str(model),
        "data": plan.dataset.name,
        "images": there,
        "steps": plan.steps,
        "size": list(plan.size),
        **result,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _short(
    host: Host,
    plan: Plan,
    features: Any,
    cached: CachedTask,
    parts: tuple[list[int], list[int]],
    steps: int,
    options: TrainOptions,
    device: str,
    progress: Progress,
) -> Scores:
    """Scores of a short training's last weights, image by image."""
    settings = TrainSettings(
        steps, options.batch, options.lr, options.seed, evaluations=1, precision=options.precision
    )
    with tempfile.TemporaryDirectory() as work, seeded(device, options.seed):
        head = make_head(host, plan.ref, features, plan.task.out_channels, plan.head_owner)
        run = HeadTraining(plan.task, head, cached, parts, settings, {}, Path(work), device)
        run.resumable = False
        run.run(progress, f"A short training on {len(parts[0])} images")
    return score_head(plan.task, head, cached, parts[1], options.batch, torch.device(device))


def _too_few(plan: Plan, images: int) -> DataError:
    return DataError(
        f"{plan.dataset.name}: {plan.task.spec.primary_metric.name} of {plan.name} cannot be "
        f"measured on {images} images.",
        hint="Too few of them have the target. Train it: medusa add-task",
    )


def _estimated(
    plan: Plan, runs: Sequence[dict[str, Any]], ratios: tuple[float, float], selection: int
) -> dict[str, Any]:
    metric = plan.task.spec.primary_metric
    values = [run["scores"].figures()[metric.name] for run in runs]
    if not all(math.isfinite(value) for value in values):
        raise _too_few(plan, len(runs[1]["scores"]))
    if not estimation.fits_scale(metric, *values):
        raise DataError(
            f"{metric.name} of {plan.name} is {values[1]:.4g}: only errors and shares (0 to 1) can "
            "be extrapolated.",
            hint="Train it: medusa add-task",
        )
    first, second = (estimation.to_scale(metric, value) for value in values)
    evidence = Evidence(
        first,
        second,
        estimation.standard_error(runs[1]["scores"], metric, selection),
        *(max(0.0, math.log(ratio, estimation.STEP)) for ratio in ratios),
    )
    middle, width = estimation.extrapolate(evidence)
    ends = sorted(estimation.from_scale(metric, middle + way * width) for way in (-1, 1))
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "estimate": estimation.from_scale(metric, middle),
        "low": ends[0],
        "high": ends[1],
        "level": estimation.LEVEL,
        "based_on": {
            "selection_images": len(runs[1]["scores"]),
            "trainings": [
                {"images": run["images"], "steps": run["steps"], "score": value}
                for run, value in zip(runs, values, strict=True)
            ],
            "evidence": vars(evidence),
        },
    }
