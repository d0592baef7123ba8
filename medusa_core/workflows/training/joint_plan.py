"""A joint training, checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medusa_core.api import Dataset, HeadRef, TaskSpec
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.engine import checkpoint
from medusa_core.engine.balancing import check_balance
from medusa_core.engine.binding import Binding
from medusa_core.engine.datasets import DataRef, check_target, selection_split
from medusa_core.engine.scores import require_figures
from medusa_core.errors import StoreError, UsageError
from medusa_core.heads.base import Head
from medusa_core.model import costs
from medusa_core.model.assembly import (
    choose_architecture,
    complete_head_ref,
    make_head,
    make_task,
)
from medusa_core.model.devices import seeded
from medusa_core.model.opening import build_backbone
from medusa_core.names import as_names
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import JOINT, Layout
from medusa_core.store.manifest import BackboneRecord
from medusa_core.workflows import preparation
from medusa_core.workflows.training.head_plan import TrainOptions
from medusa_core.workflows.training.joint_data import joint_dataset

DEFAULT_STEPS = 3000


@dataclass(frozen=True)
class JointPlan:
    """What is trained on what, with a backbone that carries the weights of the model folder.

    read: the part of `data` that each task reads.
    """

    model: Path
    record: BackboneRecord
    backbone: Backbone
    data: tuple[DataRef, ...]
    read: Mapping[str, Sequence[DataRef]]
    split: str
    dataset: Dataset
    parts: tuple[list[int], list[int]]
    size: tuple[int, int]
    steps: int
    bindings: dict[str, Binding]
    heads: dict[str, HeadRef]
    head_owners: dict[str, str]
    balance: str
    options: TrainOptions
    device: str
    skipped: Mapping[str, str]


def make_plan(
    host: Host,
    model: Path,
    tasks: Sequence[str],
    data: Sequence[str],
    split: str,
    balance: str,
    options: TrainOptions,
    progress: Progress,
) -> JointPlan:
    """Check everything that `train_backbone` is given; arguments and errors as there."""
    check_balance(balance)
    with ModelFolder.open(model) as folder:
        if folder.manifest.heads:
            unfinished = checkpoint.exists(Layout(model).work(JOINT))
            raise StoreError(
                f"{model} has heads ({', '.join(folder.manifest.heads)}): they would not fit "
                "another one.",
                hint="Its training goes on with --resume, when they are removed: medusa remove-task"
                if unfinished
                else "Train in a folder of its own: medusa init NEW --backbone …",
            )
        record = folder.manifest.backbone
        tensors = folder.read_backbone()
        backbone = build_backbone(record, tensors)
    device = preparation.training_device(
        options.device, options.precision, options.tensorboard, options.cuda_graphs
    )
    specs = _specs(host, tasks)
    refs = preparation.parse_data(data)
    dataset, read = joint_dataset(host, refs, specs, split, options.limit)
    bindings, skipped = {}, dict[str, str]()
    for spec in specs:
        labels = check_target(dataset, spec)
        bindings[spec.name] = Binding(make_task(host, spec, labels), labels)
        require_figures(bindings[spec.name], selection=True)
    if options.on_bad_sample == "skip":
        dataset, skipped = preparation.screened(dataset, list(bindings.values()), progress)
    parts = selection_split(dataset)
    settings = options.settings or {}
    return JointPlan(
        model,
        record,
        backbone,
        refs,
        read,
        split,
        dataset,
        parts,
        preparation.training_size(dataset, options.size, options.batch),
        preparation.count_steps(
            options.steps, options.epochs, DEFAULT_STEPS, len(parts[0]), options.batch
        ),
        bindings,
        {spec.name: complete_head_ref(host, spec, options.head, settings) for spec in specs},
        {s.name: choose_architecture(host, s, options.head).provider.distribution for s in specs},
        balance,
        options,
        device,
        skipped,
    )


def _specs(host: Host, tasks: str | Sequence[str]) -> list[TaskSpec]:
    """The tasks; two of one name (of different plugins) would give heads of one name."""
    specs = [host.tasks.get(name) for name in as_names(tasks)]
    if not specs:
        raise UsageError("Name the tasks to train on: --tasks semseg,depth")
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise UsageError("Two tasks of one name cannot be trained together.")
    return specs


def fresh_heads(host: Host, plan: JointPlan) -> dict[str, Head]:
    """Heads with fresh weights; inside `seeded`, with the seed."""
    return {
        name: make_head(
            host,
            plan.heads[name],
            plan.backbone.info,
            binding.task.out_channels,
            plan.head_owners[name],
        )
        for name, binding in plan.bindings.items()
    }


def describe_plan(host: Host, plan: JointPlan) -> dict[str, Any]:
    """What would be trained, and what it would cost."""
    with seeded("cpu", plan.options.seed):
        heads = fresh_heads(host, plan)
    return {
        "model": str(plan.model),
        "dry_run": True,
        "backbone": {
            "name": plan.record.name,
            "params": plan.record.params,
            "gmacs": plan.record.gmacs,
        },
        "data": [str(ref) for ref in plan.data],
        "images": len(plan.parts[0]),
        "selection_images": len(plan.parts[1]),
        "skipped": preparation.shown_skipped(plan.skipped),
        "size": list(plan.size),
        "steps": plan.steps,
        "batch": plan.options.batch,
        "balance": plan.balance,
        "precision": plan.options.precision,
        "device": plan.device,
        "heads": {
            name: {
                "head": plan.heads[name].model_dump(mode="json"),
                "classes": None if b.labels is None else len(b.labels.names),
                "params": costs.parameters(heads[name]),
                "gmacs": costs.head_gmacs(heads[name], plan.backbone.info),
                "loss_weight": b.task.spec.loss_weight,
            }
            for name, b in plan.bindings.items()
        },
    }
