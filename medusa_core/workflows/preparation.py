"""What commands have in common: data sets, sizes, the open model, how trainings begin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from medusa_core.api import Dataset, TaskSpec
from medusa_core.data.geometry import Size, size_votes
from medusa_core.engine import checkpoint
from medusa_core.engine.binding import Binding
from medusa_core.engine.datasets import DataRef, Joined, Subset, check_target, load_dataset, shorten
from medusa_core.engine.precision import check_cuda_graphs, check_precision
from medusa_core.engine.training import Training
from medusa_core.engine.training_log import (
    TENSORBOARD,
    JsonLines,
    Sink,
    TensorBoard,
    TrainingLog,
)
from medusa_core.errors import DataError, UnknownNameError, UsageError
from medusa_core.extras import require_extra
from medusa_core.model.devices import choose_device
from medusa_core.model.execution import Execution
from medusa_core.model.images import STRIDE
from medusa_core.model.inference import keep_memory
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.model.opening import open_model
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress

DEFAULT_DATA = ("rooms",)
MIN_SIZE, MAX_SIZE = 32, 4096
MAX_EPOCHS = 1_000_000


def parse_data(data: str | Iterable[str]) -> tuple[DataRef, ...]:
    """`--data` options, or one, each once; the default data set where there are none."""
    texts = (data,) if isinstance(data, str) else tuple(data)
    unique: dict[object, DataRef] = {}
    spelled: dict[object, str | None] = {}  # a folder named in two ways is one data set
    for ref in map(DataRef.parse, texts or DEFAULT_DATA):
        place = ref.name, ref.location
        if ref.location and os.path.exists(ref.location):
            place = ref.name, os.path.realpath(ref.location)
        location = spelled.setdefault(place, ref.location)
        unique.setdefault((place, ref.task), replace(ref, location=location))
    return tuple(unique.values())


def bound_to(refs: Iterable[DataRef], head: str, task: str) -> str | None:
    """What the data of a head are bound to: itself, or else its task, or else nothing."""
    bound = {ref.task for ref in refs}
    return next((name for name in (head, task) if name in bound), None)


def data_for(
    host: Host,
    refs: Sequence[DataRef],
    task: TaskSpec,
    name: str,
    split: str,
    limit: int | None = None,
) -> tuple[Dataset, list[DataRef]]:
    """The data sets bound to a head, or else to its task, or all unbound ones with its target.

    Several are joined. Beside them, how they were named.

    Raises:
        DataError: none of them has the target.
    """
    bound = bound_to(refs, name, task.name)
    parts = [(ref, load_dataset(host, ref, split)) for ref in refs if ref.task == bound]
    if not parts:
        raise UsageError(
            f"No data for {name!r}: every --data is bound to another task.",
            hint=f"--data {task.name}=NAME:PATH",
        )
    fitting = [
        (ref, part)
        for ref, part in parts
        if task.target.source == "image" or task.target_name in part.targets
    ]
    if not fitting:
        check_target(parts[0][1], task)
    used = [part for _, part in fitting]
    whole = used[0] if len(used) == 1 else Joined(used)
    return shorten(whole, limit), [ref for ref, _ in fitting]


ON_BAD_SAMPLE = ("fail", "skip")
SHOWN_SKIPPED = 20


def check_on_bad_sample(choice: str) -> None:
    """Refuse what does not exist.

    Raises:
        UsageError: it is neither "fail" nor "skip".
    """
    if choice not in ON_BAD_SAMPLE:
        raise UsageError(f"--on-bad-sample {choice}: {' or '.join(ON_BAD_SAMPLE)} is needed.")


def screened(
    dataset: Dataset, bindings: Sequence[Binding], progress: Progress
) -> tuple[Dataset, dict[str, str]]:
    """The samples of a data set that all of `bindings` can use; each sample is tried once.

    Returns:
        The data set without the others, and these: id → why.

    Raises:
        DataError: fewer than two can be used.
    """
    good: list[int] = []
    bad: dict[str, str] = {}
    names = {b.task.spec.target_name for b in bindings if not b.from_image}
    progress.start(f"Trying every sample of {dataset.name}", len(dataset))
    for index in range(len(dataset)):
        try:
            dataset.size(index)
            sample = dataset.load(index, names)
            for binding in bindings:
                binding.target(sample)
            good.append(index)
        except DataError as err:
            bad[dataset.ids[index]] = err.message
        progress.advance()
    progress.finish()
    if not bad:
        return dataset, {}
    shown = "; ".join(f"{name}: {why}" for name, why in shown_skipped(bad)["samples"].items())
    told = f"{len(bad)} of {len(dataset)} samples of {dataset.name} cannot be used"
    if len(good) < 2:
        raise DataError(f"{told}: {shown}")
    progress.message(f"{told} and are skipped: {shown}")
    return Subset(dataset, good), bad


def tell_labelled(
    name: str, dataset: Dataset, labelled: Sequence[int], target: str, progress: Progress
) -> None:
    """Say how many images a head is trained on, where some lack its target."""
    if len(labelled) < len(dataset):
        progress.message(
            f"{len(labelled)} of {len(dataset)} images of {dataset.name} have {target!r}: {name} "
            "is trained on those."
        )


def unusable(model: MedusaModel, tasks: Sequence[str] | None) -> dict[str, str]:
    """Heads that cannot be run, and why, where all were asked for: they are left out."""
    return {name: err.message for name, err in model.orphans.items() if tasks is None}


def shown_skipped(skipped: Mapping[str, str]) -> dict[str, Any]:
    """For reports: how many samples were skipped, and the first of them with the reason."""
    return {"count": len(skipped), "samples": dict(islice(skipped.items(), SHOWN_SKIPPED))}


def require_bindings_used(refs: Iterable[DataRef], names: Iterable[str]) -> None:
    """Refuse `--data TASK=…` for a task or head that is not asked for: it would do nothing."""
    names = set(names)
    for ref in refs:
        if ref.task is not None and ref.task not in names:
            raise UnknownNameError(
                "task or head", ref.task, names, hint=f"It is named in --data {ref}."
            )


def training_size(dataset: Dataset, size: Size | None, batch: int) -> Size:
    """(H, W) to train at: the one asked for, or the most common one of the images.

    Raises:
        UsageError: too small or too large.
    """
    chosen = size or size_votes([dataset.size(i) for i in range(len(dataset))])
    if min(chosen) < MIN_SIZE or max(chosen) > MAX_SIZE:
        raise UsageError(
            f"Size {chosen[0]}x{chosen[1]}: sides must be {MIN_SIZE} to {MAX_SIZE} pixels.",
            hint="Choose another with --size HxW.",
        )
    if batch == 1 and max(chosen) <= STRIDE:
        raise UsageError(
            f"One image of {chosen[0]}x{chosen[1]} a step is too little: BatchNorm needs at least "
            f"two values of the level at stride {STRIDE}.",
            hint="Choose a larger --batch or --size.",
        )
    return chosen


def count_steps(
    steps: int | None, epochs: float | None, default: int, images: int, batch: int
) -> int:
    """Length of a training in steps.

    Raises:
        UsageError: not positive, or both given.
    """
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs exclude each other.")
    if epochs is not None:
        if not 0 < epochs <= MAX_EPOCHS:
            raise UsageError(f"--epochs {epochs}: a number up to {MAX_EPOCHS} is needed.")
        steps = round(epochs * images / batch) or 1
    count = default if steps is None else steps
    if count < 1:
        raise UsageError(f"--steps {count}: at least one step is needed.")
    return count


def opened(
    model: str | Path | MedusaModel,
    tasks: Sequence[str] | None,
    device: str | None,
    host: Host | None,
    execution: Execution | None,
) -> MedusaModel:
    """The model, opened where only its folder is given. OpenVINO computes on the CPU.

    Raises:
        UsageError: it is open, but elsewhere or in another way.
    """
    if isinstance(model, MedusaModel):
        if execution not in (None, model.execution):
            raise UsageError(f"The open model is run otherwise: {model.execution}.")
        where = model.backbone.mean.device
        if device is not None and torch.empty(0, device=choose_device(device)).device != where:
            raise UsageError(f"The open model is on {where}, not on {device}.")
        return model
    if execution is not None and execution.engine == "openvino" and device is None:
        device = "cpu"
    return open_model(model, tasks, choose_device(device), host, execution)


def resume(training: Training, wanted: bool, what: str, progress: Progress) -> None:
    """Take up an unfinished training where that is wanted, and say what happens to it.

    Raises:
        UsageError: it had other settings. StoreError: its state is damaged.
    """
    if wanted and training.resume():
        progress.message(f"Going on with {what} at step {training.step}.")
    elif wanted:
        progress.message(f"There is no unfinished training of {what}: starting at step 0.")
    elif checkpoint.exists(training.work):
        progress.message(
            f"An unfinished training of {what} is given up; --resume would have gone on with it."
        )


LOG = "log.jsonl"
"""In the work folder of a training that is not committed yet."""


def training_log(training: Training, folder: Path | None, progress: Progress) -> TrainingLog:
    """Where a training writes down how it goes: beside its state, and for TensorBoard if wanted.

    Args:
        training: the training.
        folder: of TensorBoard's files; None: none are written.
        progress: told about a log that cannot be written.
    """
    sinks: list[Sink] = [JsonLines(training.work / LOG)]
    if folder is not None:
        sinks.append(TensorBoard(folder))
    return TrainingLog(sinks, progress)


def training_device(
    name: str | None,
    precision: str,
    tensorboard: str | Path | None = None,
    cuda_graphs: bool = False,
) -> str:
    """Where to train, checked before any work; there freed memory is kept for the next step.

    Raises:
        UsageError: torch cannot use the device, it lacks the precision, cannot record, or
            TensorBoard is not installed.
    """
    device = choose_device(name)
    check_precision(precision, device)
    if cuda_graphs:
        check_cuda_graphs(device, precision)
    if tensorboard is not None:
        require_extra(*TENSORBOARD)
    keep_memory()
    return device
