"""One pass over a data set that fills files of the feature cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from medusa_core.api import Dataset, Sample
from medusa_core.data.geometry import Size, View, view_image
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import File, Inputs, Source, compact
from medusa_core.engine.row_file import RowWriter
from medusa_core.errors import DataError
from medusa_core.plugin_host.importing import FAILURES
from medusa_core.progress import Progress

BATCH = 8
PADDING = (124, 116, 104)
"""RGB beside a picture that does not fill the canvas: the mean colour of ImageNet."""


Key = tuple[int, str, int | None]
"""View, part and task of a file."""


def fill(
    source: Source,
    inputs: Inputs,
    bindings: Sequence[Binding],
    writers: Mapping[File, RowWriter],
    progress: Progress,
) -> dict[int, BaseException]:
    """One pass over the data set that writes whatever is missing.

    Each file goes on after the rows that it has, features at a whole batch: they have the same bits
    as without a pause. Ends when no task is left.

    Returns:
        The number of each task whose target could not be had → why. Of these, nothing more is
        written.

    Raises:
        Exception: of an image.
    """
    by_key = {(file.view, file.part, file.binding): w for file, w in writers.items()}
    failed = _write_all(source, inputs, bindings, by_key, progress)
    for (_, _, task), writer in by_key.items():
        if task in failed:
            writer.rewind(0)
    return failed


def _write_all(
    source: Source,
    inputs: Inputs,
    bindings: Sequence[Binding],
    by_key: Mapping[Key, RowWriter],
    progress: Progress,
) -> dict[int, BaseException]:
    dataset, failed = source.dataset, dict[int, BaseException]()
    features = [writer for (_, part, _), writer in by_key.items() if part == "input"]
    for writer in features:
        if writer.written < len(dataset):
            writer.rewind(writer.written // BATCH * BATCH)
    if there := min((writer.written for writer in features), default=0):
        progress.message(f"Going on: {there} of {len(dataset)} images are there.")
    start = min(writer.written for writer in by_key.values())
    progress.start(f"Caching {dataset.name} ({dataset.split})", len(dataset), start)
    waiting: dict[int, list[np.ndarray]] = {view: [] for view, part, _ in by_key if part == "input"}
    for index in range(start, len(dataset)):
        due = {k: w for k, w in by_key.items() if w.written <= index and k[2] not in failed}
        if due:
            _write_sample(source, index, bindings, due, waiting, failed)
        if bindings and len(failed) == len(bindings):
            return failed
        for view, images in waiting.items():
            if images and (len(images) >= BATCH or index == len(dataset) - 1):
                rows = inputs.compute(images)
                for number, row in enumerate(rows, index + 1 - len(images)):
                    if not np.isfinite(row).all():
                        raise _not_finite(dataset, number)
                    by_key[view, "input", None].write(row)
                images.clear()
        progress.advance()
    progress.finish()
    return failed


def _write_sample(
    source: Source,
    index: int,
    bindings: Sequence[Binding],
    due: Mapping[Key, RowWriter],
    waiting: Mapping[int, list[np.ndarray]],
    failed: dict[int, BaseException],
) -> None:
    """Targets of one sample in every view in which something is due; its images wait."""
    tasks = sorted({task for _, _, task in due if task is not None})
    sample = _load(source.dataset, index, bindings, tasks, failed)
    for number in sorted({view for view, _, _ in due}):
        view = source.views[number]
        shown = view_image(sample.image, source.size, view, PADDING)
        for task in tasks:
            parts = [part for part in ("target", "valid") if (number, part, task) in due]
            if not parts or task in failed:
                continue
            try:
                target, valid = _viewed(bindings[task], sample, shown, source.size, view)
            except FAILURES as err:
                failed[task] = err
                continue
            for part in parts:
                due[number, part, task].write(target if part == "target" else valid)
        if (number, "input", None) in due:
            waiting[number].append(shown)


def _not_finite(dataset: Dataset, index: int) -> DataError:
    return DataError(
        f"{dataset.name}: the backbone gives no finite numbers for {dataset.ids[index]!r}.",
        hint="Its weights are the reason, as a rule: medusa verify",
    )


def _load(
    dataset: Dataset,
    index: int,
    bindings: Sequence[Binding],
    wanted: Iterable[int],
    failed: dict[int, BaseException],
) -> Sample:
    """A sample with the targets of all tasks that have not failed; those that fail now are noted.

    Raises:
        DataError: its image cannot be read.
    """

    def names(tasks: Iterable[int]) -> list[str]:
        chosen = [bindings[task] for task in tasks]
        return sorted({b.task.spec.target_name for b in chosen if not b.from_image})

    left = sorted(set(wanted) - failed.keys())
    try:
        return dataset.load(index, names(left))
    except DataError:
        dataset.load(index, [])  # raises if the image is to blame
        for task in left:
            try:
                dataset.load(index, names([task]))
            except DataError as err:
                failed[task] = err
        return dataset.load(index, names(set(left) - failed.keys()))


def _viewed(
    binding: Binding, sample: Sample, shown: np.ndarray, size: Size, view: View
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a target and of its valid mask."""
    target, valid = binding.viewed(sample, shown, size, view) or binding.missing(size)
    return compact(target, binding), valid.astype(np.uint8)
