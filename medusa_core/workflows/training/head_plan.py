"""One head to be trained: how, and everything about it, checked before any work starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medusa_core.api import Dataset, HeadRef, LabelSchema, Task
from medusa_core.data.geometry import MAX_VIEWS
from medusa_core.engine.binding import Binding
from medusa_core.engine.datasets import DataRef, check_target, selection_split
from medusa_core.engine.scores import require_figures
from medusa_core.errors import UnknownNameError, UsageError
from medusa_core.model.assembly import choose_architecture, complete_head_ref, make_task
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress
from medusa_core.workflows import preparation

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


def train_options(
    verb: str, given: Mapping[str, Any], without: Collection[str] = (), **defaults: Any
) -> TrainOptions:
    """Options that a function was called with by name.

    Args:
        verb: the function.
        given: option → value.
        without: fields of `TrainOptions` that it does not take.
        **defaults: where they are others than those of `TrainOptions`.

    Raises:
        UnknownNameError: it takes no option of that name. UsageError: a value is not possible.
    """
    known = {field.name for field in fields(TrainOptions)} - set(without)
    for name in given:
        if name not in known:
            raise UnknownNameError(f"option of {verb}()", name, known)
    return TrainOptions(**{**defaults, **given})


@dataclass(frozen=True)
class Plan:
    """One head to be trained, checked before any work starts.

    data: what `dataset` is made of.
    zooms: views may show a part of a picture enlarged.
    """

    name: str
    task: Task
    labels: LabelSchema | None
    ref: HeadRef
    head_owner: str
    zooms: bool
    dataset: Dataset
    data: Sequence[DataRef]
    size: tuple[int, int]
    steps: int
    skipped: Mapping[str, str]


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
    head = choose_architecture(host, spec, options.head)
    zooms = spec.target.zoom != "invalid" and not head.spec.blind
    owner = head.provider.distribution
    return Plan(name, task, labels, ref, owner, zooms, dataset, data, size, steps, skipped)
