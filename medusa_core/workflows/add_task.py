"""`medusa add-task`: train one or more heads on the frozen backbone and commit them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medusa_core.engine.cache_folder import cache_folder, cache_limit
from medusa_core.errors import PluginError, UsageError
from medusa_core.model.opening import restore_backbone
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import commit
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout, checked_name
from medusa_core.workflows import preparation
from medusa_core.workflows.init import as_ensured, ensure
from medusa_core.workflows.training.head_plan import make_plan, train_options
from medusa_core.workflows.training.head_run import HeadRun


def add_task(
    tasks: str | Sequence[str],
    *,
    model: str | Path = "medusa-model",
    data: Sequence[str] = (),
    name: str | None = None,
    replace: bool = False,
    split: str = "train",
    dry_run: bool = False,
    host: Host | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train a head for each task and commit it; nothing else in the folder changes.

    Several heads share one pass of the backbone over the images. They are trained one after the
    other, each as it would be alone, bit for bit; one that fails in training, or whose plugin does,
    is not in the way of the others.

    Args:
        tasks: names of installed tasks.
        model: model folder; made from the bundled backbone where it does not exist.
        data: as `--data`.
        name: of the head, where it is not that of the (single) task.
        replace: replace a head of that name.
        split: of the data set; a tenth of it is kept aside to choose weights by.
        dry_run: check everything and report costs, but train nothing.
        host: None: the installed plugins.
        progress: follows caching and training.
        **options: how to train, fields of `TrainOptions`.

    Returns:
        The heads with their selection scores, costs, times and reports; and, of several, those
        that `failed`: their errors, and those that `resume` found `already_there`.

    Raises:
        MedusaError: of a single task, or of all; the model folder is as it was, except for heads
            committed before.
    """
    host, progress = host or default_host(), progress or SilentProgress()
    how = train_options("add_task", options)
    model = Path(model)
    wanted = _names([tasks] if isinstance(tasks, str) else list(tasks), name)
    refs = preparation.parse_data(data)
    preparation.require_bindings_used(refs, (*wanted, *wanted.values()))
    plans, failed = [], dict[str, Any]()
    for head, task in wanted.items():
        try:
            plans.append(make_plan(host, head, task, refs, split, how, progress))
        except PluginError as err:  # it is in no other's way
            failed[head] = {"error": err.message, "hint": err.hint}
            if len(failed) == len(wanted):
                raise
    device = preparation.training_device(
        how.device, how.precision, how.tensorboard, how.cuda_graphs
    )
    cache_folder(), cache_limit()  # settings that are wrong are named before anything is made
    if not dry_run:
        ensure(model, progress)
    with as_ensured(model) as place, ModelFolder.open(place) as folder:
        record = folder.manifest.backbone
        there = []
        if how.resume and len(plans) > 1 and not replace:  # those before the interruption
            there = [plan.name for plan in plans if plan.name in folder.manifest.heads]
            plans = [plan for plan in plans if plan.name not in there]
        for plan in plans:
            _check_name(plan.name, folder, replace)
        before = {p.name: m.metrics if (m := folder.heads.get(p.name)) else None for p in plans}
        backbone = restore_backbone(record, folder.read_backbone())
    for head in there:
        kept = Layout(model).work(head).exists()
        more = "; an unfinished training that would replace it is kept" if kept else ""
        progress.message(f"{head} is in the model already and stays as it is{more}.")
    if not data and plans:
        progress.message("No --data given: training on `rooms`, synthetic scenes.")
    if record.provenance.get("source") == "from scratch" and "trained_on" not in record.provenance:
        progress.message(
            f"The backbone of {model} has random weights; medusa train-backbone trains it."
        )
    run = HeadRun(
        host,
        model,
        backbone,
        record,
        how,
        device,
        progress,
        split=split,
        replace=replace,
    )
    result: dict[str, Any] = {"model": str(model), "dry_run": dry_run}
    result["already_there"] = there
    if dry_run:
        heads = {p.name: {**run.describe(p), "before": before[p.name]} for p in plans}
        return {**result, "heads": heads, "failed": failed, "cache": run.needed_room(plans)}
    added, fallen = run.add(plans)
    return {**result, "heads": added, "failed": failed | fallen}


def _names(tasks: list[str], name: str | None) -> dict[str, str]:
    """Head name → task name."""
    if not tasks:
        raise UsageError("Name at least one task.", hint="They are shown by: medusa tasks")
    if len(set(tasks)) != len(tasks):
        raise UsageError("A task is named twice.", hint="Two heads of one task need --name.")
    if name is not None:
        if len(tasks) != 1:
            raise UsageError("--name goes with a single task.")
        checked_name(name)
    named = {(name or task.rpartition(":")[2]): task for task in tasks}
    if len(named) != len(tasks):
        raise UsageError(
            "Two tasks would give heads of one name.", hint="Add them one by one, with --name."
        )
    return named


def _check_name(name: str, folder: ModelFolder, replace: bool) -> None:
    if name in folder.manifest.heads and not replace:
        raise commit.name_taken(name)
