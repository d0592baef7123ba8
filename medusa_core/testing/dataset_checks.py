"""Checks of data sets: samples that are what the description and the contract say."""

from __future__ import annotations

import re

import numpy as np

from medusa_core.api import Sample
from medusa_core.errors import MedusaError
from medusa_core.testing.checks import require
from medusa_core.testing.subjects import DatasetSubject

SAMPLES = 3
"""Of each split, at most so many are read, evenly spread."""


def _indices(count: int) -> list[int]:
    return sorted({i * (count - 1) // max(SAMPLES - 1, 1) for i in range(SAMPLES)})


def splits_open(subject: DatasetSubject) -> None:
    """Every split opens and has samples with unique ids, no id in two splits."""
    seen: set[str] = set()
    for split in subject.splits:
        dataset = subject.open(split)
        ids = list(dataset.ids)
        require(dataset.split == split, f"split {split!r} calls itself {dataset.split!r}")
        require(
            ids and len(dataset) == len(ids), f"{split}: {len(dataset)} samples, {len(ids)} ids"
        )
        require(len(set(ids)) == len(ids), f"{split}: an id stands for two samples")
        require(not seen & set(ids), f"{split}: an id is in another split, too")
        seen |= set(ids)


def unknown_split_is_an_error(subject: DatasetSubject) -> None:
    """A split that does not exist is a MedusaError that names it."""
    _require_refused(subject, subject.location, "no_such_split", "a split that does not exist")


def unknown_location_is_an_error(subject: DatasetSubject) -> None:
    """A place where nothing is, or none where one is needed, is a MedusaError."""
    where = "/no/such/place"
    if subject.spec.location != "none":
        _require_refused(subject, where, subject.splits[0], "a place where nothing is")
    if subject.spec.location == "required":
        _require_refused(subject, None, subject.splits[0], "no place")


def samples_are_as_described(subject: DatasetSubject) -> None:
    """Images are `(H, W, 3) uint8` of the size told; targets are of the kinds declared."""
    for split in subject.splits:
        dataset = subject.open(split)
        require(
            not subject.spec.targets or set(dataset.targets) <= set(subject.spec.targets),
            f"{split} has targets {sorted(dataset.targets)}, the spec declares "
            f"{sorted(subject.spec.targets)}",
        )
        for index in _indices(len(dataset)):
            sample = dataset.load(index)
            require(isinstance(sample, Sample), f"load gives a {type(sample).__name__}")
            where = f"{split}/{sample.id}"
            image = sample.image
            require(sample.id == dataset.ids[index], f"{where}: its id is {dataset.ids[index]!r}")
            require(
                image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8,
                f"{where}: the image is {image.shape} {image.dtype}",
            )
            require(tuple(dataset.size(index)) == image.shape[:2], f"{where}: size() is wrong")
            for name, target in sample.targets.items():
                require(name in dataset.targets, f"{where}: {name!r} is not in targets")
                _require_target(where, name, target, image, dataset.targets[name].labels)


def _require_target(
    where: str, name: str, target: np.ndarray, image: np.ndarray, labels: object
) -> None:
    dense = target.ndim >= 2
    require(
        not dense or target.shape[:2] == image.shape[:2],
        f"{where}: {name} is {target.shape}, its image {image.shape}",
    )
    require(
        target.dtype in (np.float32, np.int64),
        f"{where}: {name} is {target.dtype}, not float32 or int64",
    )
    if labels is not None:
        count, ignored = len(labels.names), labels.ignore_index  # type: ignore[attr-defined]
        wrong = set(np.unique(target).tolist()) - {*range(count), ignored}
        require(not wrong, f"{where}: {name} holds classes {sorted(wrong)} of {count}")


def only_asked_targets_are_read(subject: DatasetSubject) -> None:
    """`load(index, targets)` gives the asked targets and no others, with the same values."""
    dataset = subject.open()
    whole = dataset.load(0)
    require(not dataset.load(0, []).targets, "load(index, []) gives targets")
    try:
        strange = dataset.load(0, ["no_such_target"]).targets
    except KeyError:
        require(False, "load(index, names) fails for a target it lacks: others' tasks ask for it")
    require(not strange, f"load(index, ['no_such_target']) gives {sorted(strange)}")
    for name in whole.targets:
        part = dataset.load(0, [name]).targets
        require(set(part) == {name}, f"load(index, [{name!r}]) gives {sorted(part)}")
        same = np.array_equal(
            part[name], whole.targets[name], equal_nan=part[name].dtype.kind == "f"
        )
        require(same, f"{name} differs when it is asked for alone")


def loading_is_repeatable(subject: DatasetSubject) -> None:
    """Opened twice, a data set has the same ids, digest and samples; splits differ in digest."""
    first, second = subject.open(), subject.open()
    require(list(first.ids) == list(second.ids), "ids differ when it is opened again")
    require(first.digest == second.digest, "the digest differs when it is opened again")
    require(
        re.fullmatch(r"[\w.:+-]{1,200}", first.digest),
        f"the digest {first.digest!r} is not short and fit for a file name",
    )
    digests = [subject.open(split).digest for split in subject.splits]
    require(len(set(digests)) == len(digests), "two splits have one digest")
    index = len(first) - 1
    one, two = first.load(index), second.load(index)
    require(np.array_equal(one.image, two.image), "an image differs when it is read again")
    require(one.targets.keys() == two.targets.keys(), "targets differ when they are read again")
    for name, target in one.targets.items():
        same = np.array_equal(target, two.targets[name], equal_nan=target.dtype.kind == "f")
        require(same, f"{name} differs when it is read again")


def _require_refused(subject: DatasetSubject, location: str | None, split: str, what: str) -> None:
    other = DatasetSubject(subject.plugin, subject.spec, location, (split,))
    try:
        other.open()
    except MedusaError as error:
        told = split in f"{error.message} {error.hint}"
        require(told or split in subject.splits, f"{what} is not named: {error.message}")
        return
    except Exception as error:  # noqa: BLE001 - that is what is checked
        require(False, f"{what} is a {type(error).__name__}, not a MedusaError: {error}")
    require(False, f"{what} is accepted")
