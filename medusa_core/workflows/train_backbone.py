"""`medusa train-backbone`: train a backbone and several heads together, then freeze it for good."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medusa_core.api import Dataset
from medusa_core.backbones.timm_backbone import build
from medusa_core.data.geometry import IDENTITY
from medusa_core.engine.binding import Binding
from medusa_core.engine.datasets import check_target, selection_split
from medusa_core.engine.feature_cache import Source, cache_images
from medusa_core.engine.joint_training import JointTask, JointTraining
from medusa_core.engine.training import Outcome, TrainSettings
from medusa_core.errors import StoreError, UsageError
from medusa_core.model import probe
from medusa_core.model.assembly import (
    complete_head_ref,
    description_of,
    load_strictly,
    make_head,
    make_task,
)
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import commit
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows import preparation
from medusa_core.workflows.add_task import TrainOptions
from medusa_core.workflows.init import record_of

DEFAULT_STEPS = 3000
DEFAULT_BATCH = 16
DEFAULT_LR = 1e-3
WORK = "backbone"


def train_backbone(
    model: str | Path = "medusa-model",
    *,
    tasks: Sequence[str],
    data: Sequence[str] = (),
    split: str = "train",
    options: TrainOptions | None = None,
    host: Host | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Train the backbone of a model folder jointly on some tasks; commit it with their heads.

    Args:
        model: a model folder without heads, as made by `init`.
        tasks: names of installed tasks.
        data: data sets; each must have the target of at least one task. Missing targets are fine.
        split: of the data sets.
        options: how to train; `views` has no meaning here.
        host: None: the installed plugins.
        progress: follows caching and training.
        **overrides: fields of `options`, where that is not given.

    Returns:
        Selection scores of every task, fingerprints before and after, times.

    Raises:
        StoreError: the folder has heads: they would no longer fit.
    """
    host, progress = host or default_host(), progress or SilentProgress()
    defaults = {"batch": DEFAULT_BATCH, "lr": DEFAULT_LR}
    options = options or TrainOptions(**{**defaults, **overrides})
    model = Path(model)
    with ModelFolder.open(model) as folder:
        if folder.heads:
            raise StoreError(
                f"{model} has heads ({', '.join(folder.heads)}): they would not fit another one.",
                hint="Train in a folder of its own: medusa init NEW --backbone …",
            )
        record = folder.manifest.backbone
        with torch.random.fork_rng(devices=[]):
            backbone = build(description_of(record))
        load_strictly(backbone.net, folder.read_backbone(), f"backbone {record.name!r}")
    device = preparation.choose_device(options.device)
    specs = [host.tasks.get(name) for name in dict.fromkeys(tasks)]
    if not specs:
        raise UsageError("Name the tasks to train on: --tasks semseg,depth")
    refs = preparation.parse_data(data)
    dataset = _one_dataset(host, refs, specs, split, options.limit)
    size = preparation.training_size(dataset, options.size, options.batch)
    parts = selection_split(dataset)
    steps = preparation.count_steps(
        options.steps, options.epochs, DEFAULT_STEPS, len(parts[0]), options.batch
    )
    head_refs = {
        spec.name: complete_head_ref(host, spec, options.head, options.settings or {})
        for spec in specs
    }
    bindings = {}
    for spec in specs:
        labels = check_target(dataset, spec)
        bindings[spec.name] = Binding(make_task(host, spec, labels), labels)
    source = Source(dataset, size, (IDENTITY,))
    images, targets = cache_images(source, list(bindings.values()), progress)
    started = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        joint = {
            name: JointTask(
                binding,
                make_head(host, head_refs[name], backbone.info, binding.task.out_channels),
                *rows,
            )
            for (name, binding), rows in zip(bindings.items(), targets, strict=True)
        }
        settings = TrainSettings(steps, options.batch, options.lr, options.seed)
        identity = {
            "tasks": {name: ref.model_dump(mode="json") for name, ref in head_refs.items()},
            "data": dataset.digest,
            "size": list(size),
            "backbone": record.fingerprint,
        }
        training = JointTraining(
            backbone,
            joint,
            images,
            parts,
            settings,
            identity,
            commit.work_dir(model, WORK),
            device,
        )
        if training.fixed_norms:
            progress.message("The backbone's BatchNorm is folded: its statistics stay fixed.")
        preparation.resume(training, options.resume, "the backbone", progress)
        outcome = training.run(progress, f"Training the backbone on {', '.join(joint)}")
    provenance = {
        "source": record.provenance.get("source", "unknown"),
        "trained_on": list(joint),
        "data": [str(ref) for ref in refs],
        "dataset": dataset.name,
        "images": len(parts[0]),
        "size": list(size),
        "steps": steps,
        "batch": options.batch,
        "lr": options.lr,
        "seed": options.seed,
        "cpu_seconds": round(outcome.cpu_seconds, 1),
        "selection": {k: float(f"{v:.5g}") for k, v in outcome.best.items() if v == v},
        "versions": preparation.versions(),
    }
    backbone = backbone.cpu().freeze()
    new_record, weights = record_of(backbone, provenance)
    features = probe.probe_features(backbone)
    heads = {
        name: preparation.new_head(
            host,
            task.binding.task,
            head_refs[name],
            task.head,
            backbone,
            new_record.fingerprint,
            features,
            size,
            _own_part(outcome, name),
            {**provenance, "joint": True},
        )
        for name, task in joint.items()
    }
    commit.replace_backbone(model, new_record, weights, heads)
    return {
        "schema_version": 1,
        "model": str(model),
        "fingerprint_before": record.fingerprint,
        "fingerprint": new_record.fingerprint,
        "heads": {name: head.manifest.metrics for name, head in heads.items()},
        "cpu_seconds": round(outcome.cpu_seconds, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _one_dataset(
    host: Host, refs: Sequence[Any], specs: Sequence[Any], split: str, limit: int | None
) -> Dataset:
    """All data sets as one; every task must find its target somewhere."""
    from medusa_core.engine.datasets import Joined, load_dataset, shorten

    bound = [str(ref) for ref in refs if ref.task is not None]
    if bound:
        raise UsageError(f"train-backbone takes data for all tasks: {bound[0]} binds one.")
    parts = [load_dataset(host, ref, split) for ref in refs]
    whole = parts[0] if len(parts) == 1 else Joined(parts)
    for spec in specs:
        check_target(whole, spec)
    return shorten(whole, limit)


def _own_part(outcome: Outcome, name: str) -> Outcome:
    """The figures of one task out of a joint training."""
    prefix = f"{name}."

    def own(figures: dict[str, float]) -> dict[str, float]:
        return {k[len(prefix) :]: v for k, v in figures.items() if k.startswith(prefix)}

    curve = [{"step": p["step"], "loss": p["loss"], **own(p)} for p in outcome.curve]
    return Outcome(curve, own(outcome.best), outcome.best_step, outcome.cpu_seconds)
