"""`medusa add-task`: train one or more heads on the frozen backbone and commit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medusa_core.api import Dataset, HeadRef, LabelSchema, Task
from medusa_core.data.geometry import MAX_VIEWS
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_folder import cache_folder, cache_limit
from medusa_core.engine.datasets import DataRef, check_target, selection_split
from medusa_core.engine.scores import require_figures
from medusa_core.errors import PluginError, UsageError
from medusa_core.model.assembly import choose_architecture, complete_head_ref, make_task
from medusa_core.model.medusa_model import restore_backbone
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import commit
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import checked_name
from medusa_core.workflows import preparation
from medusa_core.workflows.head_run import HeadRun
from medusa_core.workflows.init import as_ensured, ensure

DEFAULT_STEPS = 800
DEFAULT_BATCH = 8
DEFAULT_LR = 1e-2
DEFAULT_VIEWS = 4
MAX_LR = 1e30
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class TrainOptions:
    """How to train; None is the default of the data set, the task or the machine.

    head: architecture, `[PLUGIN:]NAME`.
    settings: of the architecture, such as `{"width": 64}`.
    steps, epochs: length of the training, one of them; None: 800 steps.
    batch: images a step.
    lr: peak of the one-cycle learning rate.
    size: (H, W) in pixels that images are brought to.
    seed: of what is random.
    views: that are cached of each image.
    limit: use at most so many images.
    device: "cpu", "cuda" or "cuda:1"; None: cuda where there is one, else cpu.
    precision: of the networks in training, "fp32", "bf16" or "fp16" (CUDA only).
    tensorboard: folder to write the log for TensorBoard to, too; needs the extra `log`.
    resume: go on with a training that was interrupted.
    on_bad_sample: "fail", or "skip" samples that cannot be read or used.
    patience: stop after so many evaluations, of 20, without a better one; None: never.
    smaller_batches: where `batch` images do not fit into memory, take fewer.
    cuda_graphs: on a CUDA device in fp32, record the networks' kernels with the first batch and
        replay them. For networks that do the same in every step; what they do otherwise in Python
        is not seen.
    """

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
    patience: int | None = None
    smaller_batches: bool = False
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        """Refuse what no training can use.

        Raises:
            UsageError: says which option.
        """
        if self.batch < 1:
            raise UsageError("--batch must be positive.")
        if not 1 <= self.views <= MAX_VIEWS:
            raise UsageError(f"--views {self.views}: a number from 1 to {MAX_VIEWS} is needed.")
        if not 0 < self.lr <= MAX_LR:
            raise UsageError(f"--lr {self.lr}: a positive number up to {MAX_LR:g} is needed.")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"--seed {self.seed}: a number from 0 to {MAX_SEED} is needed.")
        if self.patience is not None and self.patience < 1:
            raise UsageError("--patience must be positive.")
        preparation.check_on_bad_sample(self.on_bad_sample)


@dataclass(frozen=True)
class Plan:
    """One head to be trained, checked before any work starts.

    data: what `dataset` is made of.
    """

    name: str
    task: Task
    labels: LabelSchema | None
    ref: HeadRef
    head_owner: str
    dataset: Dataset
    data: Sequence[DataRef]
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
    how = TrainOptions(**options)
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
        backbone = restore_backbone(record, folder.read_backbone())
    for head in there:
        progress.message(f"{head} is in the model already and stays as it is.")
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
    result: dict[str, Any] = {"schema_version": 1, "model": str(model), "dry_run": dry_run}
    result["already_there"] = there
    if dry_run:
        heads = {plan.name: run.describe(plan) for plan in plans}
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


def make_plan(
    host: Host,
    name: str,
    task_name: str,
    refs: Sequence[DataRef],
    split: str,
    options: TrainOptions,
    progress: Progress,
) -> Plan:
    """Check everything about one head to be trained, before any work starts.

    Raises:
        MedusaError: a name, an option or the data do not fit.
    """
    spec = host.tasks.get(task_name)
    preparation.count_steps(options.steps, options.epochs, DEFAULT_STEPS, 1, options.batch)
    ref = complete_head_ref(host, spec, options.head, options.settings or {})
    dataset, data = preparation.data_for(host, refs, spec, name, split, options.limit)
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
    return Plan(name, task, labels, ref, owner, dataset, data, size, steps, skipped)


def _check_name(name: str, folder: ModelFolder, replace: bool) -> None:
    if name in folder.manifest.heads and not replace:
        raise commit.name_taken(name)
