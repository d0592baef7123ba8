"""Which data sets a joint training reads, and which targets of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medusa_core.api import Dataset, TaskSpec
from medusa_core.engine.datasets import (
    DataRef,
    Joined,
    Only,
    check_target,
    load_dataset,
    shorten,
)
from medusa_core.errors import DataError, UsageError
from medusa_core.plugin_host.host import Host
from medusa_core.workflows import preparation

Place = tuple[str, str | None]
"""Name and location of a data set, whichever tasks it is bound to."""


def joint_dataset(
    host: Host,
    refs: Sequence[DataRef],
    specs: Sequence[TaskSpec],
    split: str,
    limit: int | None = None,
) -> tuple[Dataset, dict[str, list[DataRef]]]:
    """All data sets as one, and those that each task reads, by its name.

    A task reads the data sets bound to it, or else all unbound ones that have its target; one that
    computes it reads all. Samples lack the targets that no task reads from their data set. Data
    sets that are named twice are read once.

    Args:
        host: knows the data sets.
        refs: as `--data`.
        specs: the tasks.
        split: of every data set.
        limit: at most so many images, evenly spread.

    Raises:
        DataError: a task finds no target, a data set has none of a task that reads it, or two of
            them disagree on its unit or classes.
        UsageError: bindings that cannot be kept.
    """
    preparation.require_bindings_used(refs, [spec.name for spec in specs])
    places = {(ref.name, ref.location): load_dataset(host, ref, split) for ref in refs}
    wanted: dict[Place, set[str]] = {place: set() for place in places}
    read: dict[str, list[DataRef]] = {}
    for spec in specs:
        own = _places_of(spec, refs, places)
        for place in own:
            wanted[place].add(spec.target_name)
        read[spec.name] = [
            ref
            for ref in refs
            if spec.target.source == "image"
            or (ref.task in (None, spec.name) and (ref.name, ref.location) in own)
        ]
    _require_one_reading(specs, refs)
    computed = any(spec.target.source == "image" for spec in specs)
    for place, dataset in places.items():
        if not wanted[place] and not computed:
            names = ", ".join(sorted(dataset.targets)) or "none"
            raise DataError(
                f"{dataset.name}: no target of {', '.join(s.name for s in specs)} is read from it. "
                f"Its targets: {names}.",
                hint=f"Leave --data {_text(place)} out, or add a task that it has the target of.",
            )
    if len(places) == 1:
        [whole] = places.values()
    else:
        whole = Joined(
            [
                dataset if set(dataset.targets) <= wanted[place] else Only(dataset, wanted[place])
                for place, dataset in places.items()
            ]
        )
    return shorten(whole, limit), read


def _places_of(
    spec: TaskSpec, refs: Sequence[DataRef], places: Mapping[Place, Dataset]
) -> list[Place]:
    """The data sets that a task reads its target from."""
    bound = [(ref.name, ref.location) for ref in refs if ref.task == spec.name]
    if spec.target.source == "image":
        if bound:
            raise UsageError(
                f"Task {spec.name!r} computes its target from the image, so it reads all data sets "
                f"of a joint training: it cannot be bound to {_text(bound[0])}.",
                hint="Leave the binding out.",
            )
        return []
    if bound:
        for place in bound:
            check_target(places[place], spec)
        return bound
    free = [(ref.name, ref.location) for ref in refs if ref.task is None]
    fitting = [place for place in free if spec.target_name in places[place].targets]
    if not free:
        raise UsageError(
            f"No data for {spec.name!r}: every --data is bound to another task.",
            hint=f"--data {spec.name}=NAME:PATH",
        )
    if not fitting:
        check_target(places[free[0]], spec)
    return fitting


def _require_one_reading(specs: Sequence[TaskSpec], refs: Sequence[DataRef]) -> None:
    """Refuse tasks that share a target and are bound to different data sets."""
    reading: dict[str, tuple[str, set[str]]] = {}
    for spec in specs:
        bound = {str(ref).partition("=")[2] for ref in refs if ref.task == spec.name}
        name, other = reading.setdefault(spec.target_name, (spec.name, bound))
        if other != bound:
            raise UsageError(
                f"Tasks {name!r} and {spec.name!r} both read the target {spec.target_name!r}, so "
                "they need the same data sets in a joint training.",
                hint="Bind both to the same data sets, or add one later: medusa add-task",
            )


def _text(place: Place) -> str:
    name, location = place
    return name if location is None else f"{name}:{location}"
