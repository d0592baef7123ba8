"""`medusa add-task`: train one or more heads on the frozen backbone and commit them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medusa_core.api import Dataset, HeadRef, LabelSchema, Task
from medusa_core.api.specs import NAME_PATTERN
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.data.geometry import fixed_views
from medusa_core.engine.binding import Binding
from medusa_core.engine.datasets import check_target, selection_split
from medusa_core.engine.feature_cache import CachedTask, Source, cache_tasks
from medusa_core.engine.head_training import HeadTraining
from medusa_core.engine.report import training_report
from medusa_core.engine.scores import require_figures
from medusa_core.engine.training import Outcome, TrainSettings
from medusa_core.engine.training_log import json_lines
from medusa_core.errors import NameTakenError, StoreError, UsageError
from medusa_core.heads.base import Head
from medusa_core.model import probe
from medusa_core.model.assembly import (
    added,
    choose_architecture,
    complete_head_ref,
    make_head,
    make_task,
)
from medusa_core.model.medusa_model import restore_backbone
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.plugin_host.importing import FAILURES, describe
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import commit
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout
from medusa_core.store.transaction import training
from medusa_core.workflows import preparation

DEFAULT_STEPS = 800
DEFAULT_BATCH = 8
DEFAULT_LR = 1e-2
DEFAULT_VIEWS = 4
MAX_LR = 1e30
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class TrainOptions:
    """Options of a head's training; None means the default."""

    head: str | None = None
    settings: Mapping[str, Any] | None = None
    steps: int | None = None
    epochs: float | None = None
    batch: int = DEFAULT_BATCH
    lr: float = DEFAULT_LR
    size: tuple[int, int] | None = None
    seed: int = 0
    views: int = DEFAULT_VIEWS
    limit: int | None = None
    device: str | None = None
    precision: str = "fp32"
    tensorboard: str | Path | None = None
    resume: bool = False
    on_bad_sample: str = "fail"

    def __post_init__(self) -> None:
        """Refuse what no training can use.

        Raises:
            UsageError: says which option.
        """
        if self.batch < 1 or self.views < 1:
            raise UsageError("--batch and --views must be positive.")
        if not 0 < self.lr <= MAX_LR:
            raise UsageError(f"--lr {self.lr}: a positive number up to {MAX_LR:g} is needed.")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"--seed {self.seed}: a number from 0 to {MAX_SEED} is needed.")
        if self.on_bad_sample not in preparation.ON_BAD_SAMPLE:
            raise UsageError(f"--on-bad-sample {self.on_bad_sample}: fail or skip is needed.")


@dataclass(frozen=True)
class _Plan:
    """One head to be trained, checked before any work starts."""

    name: str
    task: Task
    labels: LabelSchema | None
    ref: HeadRef
    head_owner: str
    dataset: Dataset
    size: tuple[int, int]
    steps: int
    skipped: Mapping[str, str]


def add_task(
    tasks: str | Sequence[str],
    *,
    model: str | Path = "medusa-model",
    data: Sequence[str] = (),
    name: str | None = None,
    replace: bool = False,
    split: str = "train",
    options: TrainOptions | None = None,
    dry_run: bool = False,
    host: Host | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Train a head for each task and commit it; nothing else in the folder changes.

    Args:
        tasks: names of installed tasks.
        model: model folder; made from the bundled backbone where it does not exist.
        data: as `--data`.
        name: of the head, where it is not that of the (single) task.
        replace: replace a head of that name.
        split: of the data set; a tenth of it is kept aside to choose weights by.
        options: how to train.
        dry_run: check everything and report costs, but train nothing.
        host: None: the installed plugins.
        progress: follows caching and training.
        **overrides: fields of `options` that differ from it.

    Returns:
        The heads with their selection scores, costs, times and reports.

    Raises:
        MedusaError: the model folder is as it was, except for heads committed before.
    """
    host, progress = host or default_host(), progress or SilentProgress()
    options = TrainOptions(**{**(vars(options) if options else {}), **overrides})
    model = Path(model)
    wanted = _names([tasks] if isinstance(tasks, str) else list(tasks), name)
    refs = preparation.parse_data(data)
    preparation.require_bindings_used(refs, (*wanted, *wanted.values()))
    plans = [
        _plan(host, head, task, refs, split, options, progress) for head, task in wanted.items()
    ]
    device = preparation.choose_device(options.device)
    preparation.check_options(options.precision, device, options.tensorboard)
    if not model.exists() and not dry_run:
        from medusa_core.workflows.init import init

        init(model, progress=progress)
        progress.message(f"Made {model} from the bundled universal backbone.")
    with ModelFolder.open(model) as folder:
        record, existing = folder.manifest.backbone, set(folder.heads)
        if options.resume and len(plans) > 1 and not replace:  # those before the interruption
            plans = [plan for plan in plans if plan.name not in folder.manifest.heads]
        for plan in plans:
            _check_name(plan.name, folder, replace)
        backbone = restore_backbone(record, folder.read_backbone())
    if not data:
        progress.message("No --data given: training on `rooms`, synthetic scenes.")
    features = probe.probe_features(backbone)
    backbone.to(device)
    done = {}
    for plan in plans:
        if dry_run:
            done[plan.name] = _describe(plan)
            continue
        with training(model, plan.name):
            trained = _train(
                host, model, plan, backbone, record.fingerprint, options, device, progress
            )
            head, outcome, cached, parts, seconds = trained
            provenance = {
                "data": [str(ref) for ref in refs],
                "dataset": plan.dataset.name,
                "dataset_digest": plan.dataset.digest,
                "split": split,
                "images": len(parts[0]),
                "selection_images": len(parts[1]),
                "steps": plan.steps,
                "batch": options.batch,
                "lr": options.lr,
                "seed": options.seed,
                "views": options.views,
                "precision": options.precision,
                **({"skipped": preparation.shown_skipped(plan.skipped)} if plan.skipped else {}),
            }
            committed = preparation.new_head(
                host,
                plan.task,
                plan.ref,
                head,
                backbone,
                record.fingerprint,
                features,
                plan.size,
                outcome,
                provenance,
                plan.head_owner,
            )
            _commit(model, plan.name, committed, replace, record.fingerprint)
        host.tell(added(model, plan.name, committed.manifest, plan.name in existing))
        report = _report(model, plan, head, cached, parts[1], outcome, progress)
        log = preparation.write_report(
            Layout(model).log(plan.name), json_lines(outcome.log), progress
        )
        done[plan.name] = {
            **_describe(plan),
            "metrics": committed.manifest.metrics,
            "primary": plan.task.spec.primary_metric.name,
            "unit": plan.task.spec.primary_metric.unit,
            "params": committed.manifest.params,
            "gmacs": committed.manifest.gmacs,
            "share_of_backbone": committed.manifest.gmacs / record.gmacs,
            "cpu_seconds": round(outcome.cpu_seconds, 1),
            "seconds": round(seconds, 1),
            "report": report,
            "log": log,
        }
    return {"schema_version": 1, "model": str(model), "dry_run": dry_run, "heads": done}


def _names(tasks: list[str], name: str | None) -> dict[str, str]:
    """Head name → task name."""
    if not tasks:
        raise UsageError("Name at least one task.", hint="They are shown by: medusa tasks")
    if len(set(tasks)) != len(tasks):
        raise UsageError("A task is named twice.", hint="Two heads of one task need --name.")
    if name is not None:
        import re

        if len(tasks) != 1:
            raise UsageError("--name goes with a single task.")
        if not re.fullmatch(NAME_PATTERN, name):
            raise UsageError(
                f"{name!r} cannot be the name of a head: lower-case letters, digits and "
                "underscores, a letter first, at most 41."
            )
    named = {(name or task.rpartition(":")[2]): task for task in tasks}
    if len(named) != len(tasks):
        raise UsageError(
            "Two tasks would give heads of one name.", hint="Add them one by one, with --name."
        )
    return named


def _plan(
    host: Host,
    name: str,
    task_name: str,
    refs: Sequence[Any],
    split: str,
    options: TrainOptions,
    progress: Progress,
) -> _Plan:
    spec = host.tasks.get(task_name)
    preparation.count_steps(options.steps, options.epochs, DEFAULT_STEPS, 1, options.batch)
    ref = complete_head_ref(host, spec, options.head, options.settings or {})
    dataset = preparation.data_for(host, refs, spec, name, split, options.limit)
    labels = check_target(dataset, spec)
    task, skipped = make_task(host, spec, labels), dict[str, str]()
    if options.on_bad_sample == "skip":
        dataset, skipped = preparation.screened(dataset, [Binding(task, labels)], progress)
    train, _ = selection_split(dataset)
    steps = preparation.count_steps(
        options.steps, options.epochs, DEFAULT_STEPS, len(train), options.batch
    )
    size = preparation.training_size(dataset, options.size, options.batch)
    require_figures(Binding(task, labels), selection=True)
    owner = choose_architecture(host, spec, options.head).provider.distribution
    return _Plan(name, task, labels, ref, owner, dataset, size, steps, skipped)


def _check_name(name: str, folder: ModelFolder, replace: bool) -> None:
    if name in folder.manifest.heads and not replace:
        raise commit.name_taken(name)


def _commit(model: Path, name: str, head: NewHead, replace: bool, fingerprint: str) -> None:
    """Commit a trained head. Where that fails, its training is kept, and the error says so."""
    try:
        commit.commit_head(model, name, head, replace=replace, expect_fingerprint=fingerprint)
    except NameTakenError as err:
        err.hint = (
            "It was added meanwhile. The finished training is kept, --resume takes it up: together "
            f"with --replace, or after medusa rename-head {name} OTHER."
        )
        raise
    except StoreError as err:
        err.hint = f"{err.hint or ''} The finished training is kept: add --resume.".strip()
        raise


def _describe(plan: _Plan) -> dict[str, Any]:
    return {
        "task": plan.task.spec.name,
        "head": plan.ref.model_dump(mode="json"),
        "data": plan.dataset.name,
        "images": len(plan.dataset),
        "size": list(plan.size),
        "steps": plan.steps,
        "classes": len(plan.labels.names) if plan.labels else None,
        "skipped": preparation.shown_skipped(plan.skipped),
    }


def _report(
    model: Path,
    plan: _Plan,
    head: Head,
    cached: CachedTask,
    selection: list[int],
    outcome: Outcome,
    progress: Progress,
) -> str | None:
    """Write the training report; the head is committed by now, whatever a plugin's drawing does."""
    try:
        png = training_report(plan.name, plan.task, head, cached, selection, outcome)
    except FAILURES as err:
        progress.message(f"No report of {plan.name}: {describe(err)}.")
        return None
    return preparation.write_report(Layout(model).report(plan.name), png, progress)


def _train(
    host: Host,
    model: Path,
    plan: _Plan,
    backbone: Backbone,
    fingerprint: str,
    options: TrainOptions,
    device: str,
    progress: Progress,
) -> tuple[Any, Outcome, CachedTask, tuple[list[int], list[int]], float]:
    views = fixed_views(options.views)
    if plan.task.spec.target.zoom == "invalid":  # a part of a picture would teach nothing
        views = tuple(view for view in views if view.zoom == 1)
    source = Source(plan.dataset, plan.size, views)
    [cached] = cache_tasks(
        backbone, fingerprint, source, [Binding(plan.task, plan.labels)], progress
    )
    parts = selection_split(plan.dataset)
    settings = TrainSettings(
        plan.steps, options.batch, options.lr, options.seed, precision=options.precision
    )
    identity = {
        "task": plan.task.spec.name,
        "head": plan.ref.model_dump(mode="json"),
        "data": plan.dataset.digest,
        "size": list(plan.size),
        "views": options.views,
        "backbone": fingerprint,
    }
    started = time.perf_counter()
    work = commit.work_dir(model, plan.name)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        head = make_head(host, plan.ref, backbone.info, plan.task.out_channels, plan.head_owner)
        run = HeadTraining(plan.task, head, cached, parts, settings, identity, work, device)
        preparation.resume(run, options.resume, plan.name, progress)
        board = Path(options.tensorboard) / plan.name if options.tensorboard else None
        log = preparation.training_log(run, board, progress)
        outcome = run.run(progress, f"Training {plan.name}", log)
    return head, outcome, cached, parts, time.perf_counter() - started
