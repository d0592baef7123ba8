"""`medusa train-backbone`: train a backbone and several heads together, then freeze it for good."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medusa_core.data.geometry import IDENTITY
from medusa_core.engine.cache_files import Source
from medusa_core.engine.feature_cache import cache_images
from medusa_core.engine.joint_training import JointTask, JointTraining
from medusa_core.engine.outcome import Outcome, TrainSettings
from medusa_core.engine.report import joint_report
from medusa_core.engine.training_log import json_lines
from medusa_core.errors import StoreError
from medusa_core.heads.base import Head
from medusa_core.model import probe
from medusa_core.model.assembly import added
from medusa_core.model.devices import seeded
from medusa_core.model.trial import try_head
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import commit
from medusa_core.store.commit import NewHead
from medusa_core.store.layout import JOINT, Layout
from medusa_core.store.manifest import BackboneRecord
from medusa_core.store.transaction import training
from medusa_core.workflows import preparation
from medusa_core.workflows.init import record_of
from medusa_core.workflows.training import finishing
from medusa_core.workflows.training.head_plan import train_options
from medusa_core.workflows.training.joint_plan import (
    JointPlan,
    describe_plan,
    fresh_heads,
    make_plan,
)

DEFAULT_BATCH = 16
DEFAULT_LR = 1e-3
_NOT_TAKEN = {"views", "patience", "smaller_batches"}
"""Options of `add_task` alone."""


def train_backbone(
    model: str | Path = "medusa-model",
    *,
    tasks: Sequence[str],
    data: Sequence[str] = (),
    split: str = "train",
    balance: str = "fixed",
    dry_run: bool = False,
    host: Host | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train the backbone of a model folder jointly on some tasks; commit it with their heads.

    Args:
        model: a model folder without heads, as made by `init`.
        tasks: names of installed tasks.
        data: as `--data`. A task reads the data sets bound to it (`TASK=NAME:PATH`), or else all
            unbound ones with its target. Samples may lack any target.
        split: of the data sets; a tenth of each is kept aside to choose weights by.
        balance: of the losses: `fixed`, `uncertainty` or `dwa`, see `engine.balancing`.
        dry_run: check everything and report costs, but train nothing.
        host: None: the installed plugins.
        progress: follows caching and training.
        **options: how to train, fields of `TrainOptions`, but other defaults: 3000 steps of 16
            images, a learning rate of 0.001. Not `views`, `patience` and `smaller_batches`.

    Returns:
        Selection scores of every task, fingerprints before and after, times.

    Raises:
        StoreError: the folder has heads: they would no longer fit. Or its backbone is being
            trained already.
        DataError: a task finds no target, or a data set has none that is asked for.
        TrainingError: the training diverged. The model folder is as it was, as after any error.
    """
    host, progress = host or default_host(), progress or SilentProgress()
    how = train_options("train_backbone", options, _NOT_TAKEN, batch=DEFAULT_BATCH, lr=DEFAULT_LR)
    plan = make_plan(host, Path(model), tasks, data, split, balance, how, progress)
    if dry_run:
        return describe_plan(host, plan)
    for name, binding in plan.bindings.items():
        channels, owner = binding.task.out_channels, plan.head_owners[name]
        try_head(host, plan.heads[name], plan.backbone.info, channels, owner)
    with training(plan.model, JOINT):
        images, targets = cache_images(
            Source(plan.dataset, plan.size, (IDENTITY,)), list(plan.bindings.values()), progress
        )
        labelled = _labelled(plan, targets, progress)
        started = time.perf_counter()
        heads, outcome, unfolded = _train(host, plan, images, targets, progress)
        record, weights, finished = _finished(host, plan, heads, outcome, unfolded, labelled)
        _commit(plan.model, record, weights, finished)
        seconds = time.perf_counter() - started
    for name, head in finished.items():
        host.tell(added(plan.model, name, head.manifest))
    layout = Layout(plan.model)
    log = json_lines(outcome.log)
    return {
        "model": str(plan.model),
        "dry_run": False,
        "fingerprint_before": plan.record.fingerprint,
        "fingerprint": record.fingerprint,
        "heads": {name: head.manifest.metrics for name, head in finished.items()},
        "best_step": outcome.best_step,
        "balance": outcome.balance,
        "precision": how.precision,
        "skipped": preparation.shown_skipped(plan.skipped),
        "unfolded_norms": unfolded,
        "cpu_seconds": round(outcome.cpu_seconds, 1),
        "seconds": round(seconds, 1),
        "report": finishing.draw_report(
            "the backbone",
            lambda: joint_report({n: b.task for n, b in plan.bindings.items()}, outcome),
            layout.report(JOINT),
            progress,
        ),
        "log": finishing.write_report(layout.log(JOINT), log, progress),
    }


def _labelled(plan: JointPlan, targets: Sequence[Any], progress: Progress) -> dict[str, list[int]]:
    """The samples that have the target of each task; told where some lack it."""
    found = {}
    for (name, binding), (_, valid) in zip(plan.bindings.items(), targets, strict=True):
        found[name] = [sample for sample, known in enumerate(valid) if known.any()]
        target = binding.task.spec.target_name
        preparation.tell_labelled(name, plan.dataset, found[name], target, progress)
    return found


def _train(
    host: Host, plan: JointPlan, images: Any, targets: Sequence[Any], progress: Progress
) -> tuple[dict[str, Head], Outcome, int]:
    """The trained heads (and, in the plan, backbone), and how many norms were unfolded."""
    options = plan.options
    with seeded(plan.device, options.seed):
        heads = fresh_heads(host, plan)
        joint = {
            name: JointTask(binding, heads[name], *rows)
            for (name, binding), rows in zip(plan.bindings.items(), targets, strict=True)
        }
        run = JointTraining(
            plan.backbone,
            joint,
            images,
            plan.parts,
            TrainSettings(
                plan.steps,
                options.batch,
                options.lr,
                options.seed,
                precision=options.precision,
                cuda_graphs=options.cuda_graphs,
            ),
            {
                "tasks": {name: ref.model_dump(mode="json") for name, ref in plan.heads.items()},
                "plugins": {
                    name: finishing.plugins(
                        host, binding.task.spec, plan.heads[name], plan.head_owners[name]
                    )
                    for name, binding in plan.bindings.items()
                },
                "data": plan.dataset.digest,
                "size": list(plan.size),
                "backbone": plan.record.fingerprint,
            },
            Layout(plan.model).work(JOINT),
            plan.device,
            balance=plan.balance,
        )
        if run.unfolded:
            progress.message(
                f"The backbone's BatchNorm was folded into its weights: {run.unfolded} layers "
                "were given the statistics of training images, which changes no output."
            )
        preparation.resume(run, options.resume, "the backbone", progress)
        board = Path(options.tensorboard) / JOINT if options.tensorboard else None
        log = preparation.training_log(run, board, progress)
        outcome = run.run(progress, f"Training the backbone on {', '.join(joint)}", log)
    return heads, outcome, run.unfolded


def _finished(
    host: Host,
    plan: JointPlan,
    heads: Mapping[str, Head],
    outcome: Outcome,
    unfolded: int,
    labelled: Mapping[str, Sequence[int]],
) -> tuple[BackboneRecord, bytes, dict[str, NewHead]]:
    """What is committed: the frozen backbone's record and weights, and its heads."""
    provenance = _provenance(plan, outcome, unfolded)
    backbone = plan.backbone.cpu().freeze()
    record, weights = record_of(backbone, provenance)
    features = probe.probe_features(backbone)
    finished = {
        name: finishing.new_head(
            host,
            plan.bindings[name].task,
            plan.heads[name],
            head,
            backbone,
            record.fingerprint,
            features,
            plan.size,
            _own_part(outcome, name, alone=len(heads) == 1),
            {**provenance, **_own_data(plan, name, labelled[name]), "joint": True},
            plan.head_owners[name],
        )
        for name, head in heads.items()
    }
    return record, weights, finished


def _commit(
    model: Path, record: BackboneRecord, weights: bytes, heads: Mapping[str, NewHead]
) -> None:
    """Commit. Where that fails, the training is kept, and the error says so."""
    try:
        commit.replace_backbone(model, record, weights, heads)
    except StoreError as err:
        err.hint = (
            f"{err.hint or ''} The finished training is kept: add --resume once there is nothing "
            "in its way (medusa remove-task)."
        ).strip()
        raise


def _own_data(plan: JointPlan, name: str, labelled: Sequence[int]) -> dict[str, Any]:
    """What the head of one task learnt from: of the data, what it reads and has its target."""
    known = set(labelled)
    return {
        "data": [str(ref) for ref in plan.read[name]],
        "images": len(known.intersection(plan.parts[0])),
        "selection_images": len(known.intersection(plan.parts[1])),
    }


def _provenance(plan: JointPlan, outcome: Outcome, unfolded: int) -> dict[str, Any]:
    options = plan.options
    return {
        "source": plan.record.provenance.get("source", "unknown"),
        "trained_on": list(plan.bindings),
        "data": [str(ref) for ref in plan.data],
        "dataset": plan.dataset.name,
        "dataset_digest": plan.dataset.digest,
        "split": plan.split,
        "images": len(plan.parts[0]),
        "selection_images": len(plan.parts[1]),
        "size": list(plan.size),
        "steps": plan.steps,
        "batch": options.batch,
        "lr": options.lr,
        "seed": options.seed,
        "precision": options.precision,
        "balance": outcome.balance,
        **({"unfolded_norms": unfolded} if unfolded else {}),
        **({"skipped": preparation.shown_skipped(plan.skipped)} if plan.skipped else {}),
        **({"restarts": outcome.restarts} if outcome.restarts else {}),
        "cpu_seconds": round(outcome.cpu_seconds, 1),
        "selection": {k: float(f"{v:.5g}") for k, v in outcome.best.items() if v == v},
        "versions": finishing.versions(),
    }


def _own_part(outcome: Outcome, name: str, alone: bool) -> Outcome:
    """The figures and the loss of one task out of a joint training; NaN where it had none."""
    prefix = f"{name}."

    def own(figures: dict[str, float]) -> dict[str, float]:
        return {k[len(prefix) :]: v for k, v in figures.items() if k.startswith(prefix)}

    curve = [
        {
            "step": p["step"],
            "loss": p.get(f"loss.{name}", p["loss"] if alone else math.nan),
            **own(p),
        }
        for p in outcome.curve
    ]
    return Outcome(curve, own(outcome.best), outcome.best_step, outcome.cpu_seconds)
