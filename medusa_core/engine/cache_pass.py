"""One pass over a data set that fills files of the feature cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from medusa_core.api import Dataset, Sample
from medusa_core.data.geometry import Size, View, view_image
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import File, Inputs, Source, compact
from medusa_core.engine.cache_folder import RESUMABLE
from medusa_core.engine.row_file import RowWriter
from medusa_core.errors import DataError
from medusa_core.plugin_host.importing import FAILURES
from medusa_core.progress import Progress

BATCH = 8
PADDING = (124, 116, 104)
"""RGB beside a picture that does not fill the canvas: the mean colour of ImageNet."""


def fill(
    source: Source,
    inputs: Inputs,
    bindings: Sequence[Binding],
    missing: Sequence[File],
    progress: Progress,
) -> tuple[dict[File, np.ndarray], dict[int, BaseException]]:
    """One pass over the data set that writes whatever is missing.

    One that was interrupted is gone on with, at a whole batch: the same bits as without a pause.

    Returns:
        The rows of each file that was written; and the number of each task whose target could not
        be had → why. Of these, what was complete before stays; nothing more is written.

    Raises:
        Exception: of an image.
    """
    with ExitStack() as stack:
        writers = {file: stack.enter_context(file.writer()) for file in missing}
        by_part = {(file.view, file.part, file.binding): w for file, w in writers.items()}
        try:
            failed = _write_all(source, inputs, bindings, by_part, progress)
        except KeyboardInterrupt:
            if RESUMABLE:
                progress.message("What was cached is kept; the same command goes on from there.")
            raise
    return {file: w.rows for file, w in writers.items() if w.rows is not None}, failed


def _write_all(
    source: Source,
    inputs: Inputs,
    bindings: Sequence[Binding],
    writers: Mapping[tuple[int, str, int | None], RowWriter],
    progress: Progress,
) -> dict[int, BaseException]:
    """Every sample in every view. Ends when no task is left."""
    dataset, failed = source.dataset, dict[int, BaseException]()
    wanted = {task for _, _, task in writers if task is not None}
    waiting: dict[int, list[np.ndarray]] = {view: [] for view in sorted({v for v, _, _ in writers})}
    done = min(writer.written for writer in writers.values()) // BATCH * BATCH
    for writer in writers.values():
        writer.rewind(done)
    if done:
        progress.message(f"{done} of {len(dataset)} images were cached before it was interrupted.")
    progress.start(f"Caching {dataset.name} ({dataset.split})", len(dataset), done)
    for index in range(done, len(dataset)):
        sample = _load(dataset, index, bindings, wanted, failed)
        for number, images in waiting.items():
            view = source.views[number]
            shown = view_image(sample.image, source.size, view, PADDING)
            for task in sorted(wanted - failed.keys()):
                if (number, "target", task) not in writers:
                    continue
                try:
                    target, valid = _viewed(bindings[task], sample, shown, source.size, view)
                except FAILURES as err:
                    failed[task] = err
                    continue
                writers[number, "target", task].write(target)
                writers[number, "valid", task].write(valid)
            if (number, "input", None) in writers:
                images.append(shown)
        if bindings and len(failed) == len(bindings):
            return failed
        for number, images in waiting.items():
            if images and (len(images) >= BATCH or index == len(dataset) - 1):
                for sample_index, row in enumerate(inputs.compute(images), index + 1 - len(images)):
                    if not np.isfinite(row).all():
                        raise _not_finite(dataset, sample_index)
                    writers[number, "input", None].write(row)
                images.clear()
        progress.advance()
    progress.finish()
    return failed


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
