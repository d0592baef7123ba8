"""Data sets by name: joined, cut short, split into a training and a selection part."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from medusa_core.api import Dataset, LabelSchema, Sample, TargetInfo, TaskSpec
from medusa_core.errors import DataError, LabelsError, UnknownNameError, UsageError
from medusa_core.names import some
from medusa_core.plugin_host.attribution import AttributedDataset
from medusa_core.plugin_host.host import Host
from medusa_core.plugin_host.importing import attributed
from medusa_core.settings import at_home

SELECTION_SHARE = 0.1
"""Share of *train* that is kept aside to choose weights by."""


@dataclass(frozen=True)
class DataRef:
    """One `--data [TASK=]NAME[:LOCATION]`. `task` binds it to a task or head of that name."""

    name: str
    location: str | None = None
    task: str | None = None

    @classmethod
    def parse(cls, text: str) -> DataRef:
        """Read the option.

        Raises:
            UsageError: it has another form, or names the home of a user who does not exist.
        """
        match = re.match(r"^(?:([a-z][a-z0-9_]*)=)?([a-z][a-z0-9_]*)(?::(.+))?$", text, re.S)
        if match is None:
            path = text if text and Path(text).is_dir() else "photos"
            raise UsageError(
                f"--data {text!r} is not of the form [TASK=]NAME[:PATH].",
                hint=f"For example: --data folder:{path} or --data depth=folder:{path}",
            )
        location = at_home(match[3]) if match[3] else None  # in `a:~/b` no shell does it
        try:
            text.encode()
        except UnicodeEncodeError as err:  # it is recorded with what is trained on it
            raise UsageError(
                f"--data {text!r}: not a path in UTF-8.", hint="Rename the folder, or link to it."
            ) from err
        return cls(name=match[2], location=location, task=match[1])

    def __str__(self) -> str:
        bound = f"{self.task}=" if self.task else ""
        return f"{bound}{self.name}" + (f":{self.location}" if self.location else "")


def image_digest(dataset: Dataset) -> str:
    """What identifies the images of a data set, whatever targets they have."""
    found: str = getattr(dataset, "image_digest", dataset.digest)
    return found


class Joined:
    """Several data sets as one. Ids are prefixed by the position of their data set."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = parts
        self.name = "+".join(part.name for part in parts)
        self.split = parts[0].split
        self.ids = tuple(f"{i}/{name}" for i, part in enumerate(parts) for name in part.ids)
        self.targets: dict[str, TargetInfo] = {}
        for part in parts:
            for target, info in part.targets.items():
                known = self.targets.get(target, info)
                self.targets[target] = _joined(known, info, f"{self.name}: target {target!r}")
        self.digest = _digest(*(part.digest for part in parts))
        self.image_digest = _digest(*map(image_digest, parts))
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def find(self, index: int) -> tuple[int, int]:
        """Number of the data set a sample lies in, and its index there."""
        part = bisect_right(self._ends, index)
        return part, index - (self._ends[part - 1] if part else 0)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        part, inner = self.find(index)
        return self.parts[part].size(inner)

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """Read one sample from the data set it lies in."""
        part, inner = self.find(index)
        sample = self.parts[part].load(inner, targets)
        return Sample(self.ids[index], sample.image, sample.targets)


class Only:
    """A data set of which some targets are read; its samples lack the others."""

    def __init__(self, whole: Dataset, targets: Collection[str]) -> None:
        self.whole = whole
        self.name, self.split, self.ids = whole.name, whole.split, whole.ids
        self.targets = {name: info for name, info in whole.targets.items() if name in targets}
        self.digest = _digest(whole.digest, "only", *sorted(self.targets))
        self.image_digest = image_digest(whole)

    def __len__(self) -> int:
        return len(self.whole)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return self.whole.size(index)

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """Read one sample."""
        names = self.targets if targets is None else self.targets.keys() & set(targets)
        return self.whole.load(index, sorted(names))


class Subset:
    """Some samples of a data set, in the given order."""

    def __init__(self, whole: Dataset, indices: Sequence[int]) -> None:
        self.whole = whole
        self.indices = indices
        self.name, self.split, self.targets = whole.name, whole.split, whole.targets
        self.ids = tuple(whole.ids[i] for i in indices)
        self.digest = _digest(whole.digest, *map(str, indices))
        self.image_digest = _digest(image_digest(whole), *map(str, indices))

    def __len__(self) -> int:
        return len(self.indices)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return self.whole.size(self.indices[index])

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """Read one sample."""
        return self.whole.load(self.indices[index], targets)


def load_dataset(host: Host, ref: DataRef, split: str) -> Dataset:
    """Open one split of a data set.

    Raises:
        UnknownNameError: no such data set or split.
        UsageError: a location is missing or superfluous.
        DataError: it cannot be read, or has no images.
    """
    try:
        entry = host.datasets.entry(ref.name)
    except UnknownNameError as err:
        if ref.location is None and Path(ref.name).is_dir():
            err.hint = f"A folder of that name is here: --data folder:{ref.name}"
        raise
    spec = entry.spec
    if spec.location == "required" and ref.location is None:
        raise UsageError(f"The data set {ref.name!r} needs a path.", hint=f"--data {ref.name}:PATH")
    if spec.location == "none" and ref.location is not None:
        raise UsageError(f"The data set {ref.name!r} takes no path.", hint=f"--data {ref.name}")
    build = host.implementation(spec)
    with attributed(entry.provider, f"data set {spec.name!r}"):
        inner = build(ref.location, split)
    dataset = AttributedDataset(inner, entry.provider, spec.name, ref.location, build)
    if len(dataset) == 0:
        raise DataError(f"{ref}: split {split!r} has no images.")
    return dataset


def spread(items: Sequence[int], count: int) -> list[int]:
    """At most `count` of them, evenly spread."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def shorten(dataset: Dataset, limit: int | None) -> Dataset:
    """At most `limit` samples, evenly spread.

    Raises:
        UsageError: the limit is not positive.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: a positive number is needed.")
    if limit is None or limit >= len(dataset):
        return dataset
    return Subset(dataset, spread(range(len(dataset)), limit))


def selection_split(dataset: Dataset) -> tuple[list[int], list[int]]:
    """Indices to train on and indices to choose weights by.

    A sample belongs to the selection part by a hash of its id in its own data set, so that it stays
    there whatever is added to the data set or joined to it later. Each part has at least one
    sample, and the selection part one of every joined data set that has two.

    Raises:
        DataError: there is only one sample.
    """
    if len(dataset) < 2:
        raise DataError(
            f"{dataset.name}: {len(dataset)} image is too few: at least 2 are needed, one to train "
            "on and one to choose weights by."
        )
    sources: dict[tuple[int, ...], list[tuple[float, int]]] = {}
    for index in range(len(dataset)):
        source, name = _origin(dataset, index)
        sources.setdefault(source, []).append((_share(name), index))
    alone = len(sources) == len(dataset)
    groups = (
        [sorted(pair for found in sources.values() for pair in found)]
        if alone
        else [sorted(found) for found in sources.values()]
    )
    kept: set[int] = set()
    for group in groups:
        chosen = [index for share, index in group if share < SELECTION_SHARE]
        if not chosen or len(chosen) == len(group):
            chosen = [group[0][1]] if len(group) > 1 else []
        kept |= set(chosen)
    return [i for i in range(len(dataset)) if i not in kept], sorted(kept)


def labelled_split(
    dataset: Dataset, labelled: Sequence[int], target: str
) -> tuple[list[int], list[int]]:
    """As `selection_split`, of the samples that have a target: the others teach nothing.

    Raises:
        DataError: only one has it.
    """
    if len(labelled) == len(dataset):
        return selection_split(dataset)
    if len(labelled) < 2:
        raise DataError(
            f"{dataset.name}: {len(labelled)} of {len(dataset)} images has {target!r}: at least 2 "
            "are needed, one to train on and one to choose weights by."
        )
    train, selection = selection_split(Subset(dataset, labelled))
    return [labelled[i] for i in train], [labelled[i] for i in selection]


def _origin(dataset: Dataset, index: int) -> tuple[tuple[int, ...], str]:
    """Which of the joined data sets a sample comes from, and its id there."""
    if isinstance(dataset, Subset):
        return _origin(dataset.whole, dataset.indices[index])
    if isinstance(dataset, Joined):
        part, inner = dataset.find(index)
        path, name = _origin(dataset.parts[part], inner)
        return (part, *path), name
    return (), dataset.ids[index]


def check_target(dataset: Dataset, task: TaskSpec) -> LabelSchema | None:
    """The classes a data set gives for a task, None for a task without classes.

    Raises:
        DataError: it lacks the target, or has it in another unit or without classes.
    """
    if task.target.source == "image":
        return task.labels if task.has_labels else None
    info = dataset.targets.get(task.target_name)
    if info is None:
        offered = ", ".join(sorted(dataset.targets)) or "none"
        raise DataError(
            f"{dataset.name}: no target {task.target_name!r} for task {task.name!r}. "
            f"Its targets: {offered}.",
            hint=f"A target for the task must be called {task.target_name!r}; with several data "
            "sets, --data TASK=NAME:PATH binds tasks to them.",
        )
    wanted = task.target.unit
    if wanted is not None and info.unit is not None and info.unit != wanted:
        raise DataError(
            f"{dataset.name}: {task.target_name!r} is in {info.unit!r}, task {task.name!r} needs "
            f"{wanted!r}.",
            hint="Choose encoding, scale and offset in dataset.json for values in that unit.",
        )
    if not task.has_labels:
        return None
    labels = info.labels or task.labels
    if labels is None:
        raise DataError(
            f"{dataset.name}: target {task.target_name!r} has no class names.",
            hint='Declare it with "encoding": "index" and "labels".',
        )
    return labels


_OTHER_HEAD = (
    "Use data with the same classes, bind data to the head (--data HEAD=NAME:PATH), leave it out "
    "with --tasks, or train another head: medusa add-task … --name NAME"
)
_BIND = "Join data with the same classes, or bind the task to one of them: --data TASK=NAME:PATH"


def require_same_labels(
    head: LabelSchema | None, data: LabelSchema | None, where: str, hint: str = _OTHER_HEAD
) -> None:
    """Refuse data whose classes are not those of a head.

    Raises:
        LabelsError: shows the first differences.
    """
    if head is None or data is None or head.names == data.names:
        return
    missing = [name for name in head.names if name not in data.names]
    added = [name for name in data.names if name not in head.names]
    moved = [
        f"{name!r} is {head.names.index(name)} and {data.names.index(name)}"
        for name in head.names
        if name in data.names and head.names.index(name) != data.names.index(name)
    ]
    parts = [
        f"{len(head.names)} classes against {len(data.names)}",
        *([f"only in the first: {some(missing)}"] if missing else []),
        *([f"only in the second: {some(added)}"] if added else []),
        *([f"in another place: {some(moved)}"] if moved and not missing else []),
    ]
    raise LabelsError(
        f"{where}: the classes differ: {'; '.join(parts)}.",
        hint=hint,
    )


def _joined(first: TargetInfo, second: TargetInfo, where: str) -> TargetInfo:
    """What two data sets say about one target; what only one of them says holds for both.

    Raises:
        DataError: they disagree on units, classes, or what an ignored pixel or a flip means.
    """
    require_same_labels(first.labels, second.labels, where, _BIND)
    if first.unit and second.unit and first.unit != second.unit:
        raise DataError(f"{where} is in {first.unit!r} and in {second.unit!r}.")
    if first.labels is not None and second.labels is not None:
        for name in ("ignore_index", "swap_pairs"):
            a, b = getattr(first.labels, name), getattr(second.labels, name)
            if a != b:
                raise DataError(
                    f"{where} has {name} {a} and {b}.",
                    hint="Data sets that are joined must number and flip their classes alike.",
                )
    return TargetInfo(first.labels or second.labels, first.unit or second.unit)


def _share(name: str) -> float:
    """A number in [0, 1) that depends on an id alone."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:13], 16) / 16**13


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
