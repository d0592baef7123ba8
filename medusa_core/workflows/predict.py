"""`medusa predict`: results for image files, read and written while the network computes."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from medusa_core.errors import (
    DataError,
    ExecutionError,
    MedusaError,
    PluginError,
    UsageError,
)
from medusa_core.model.execution import Execution
from medusa_core.model.images import as_image
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store.layout import Layout
from medusa_core.workflows import preparation, results

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
AHEAD = 4
"""So many images are read before they are needed, and so many results wait to be written."""

Views = list[tuple[list[str], Tensor]]
Item = TypeVar("Item")
Made = TypeVar("Made")


def predict(
    images: Sequence[str | Path],
    *,
    model: str | Path | MedusaModel = "medusa-model",
    tasks: Sequence[str] | None = None,
    out: str | Path = "out",
    raw: bool = False,
    formats: Sequence[str] = ("png",),
    long_side: int | None = None,
    tile: int | None = None,
    resume: bool = False,
    device: str | None = None,
    execution: Execution | None = None,
    host: Host | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write results for images: `<stem>.<head>.png` renderings, and other formats.

    Args:
        images: files, folders (their images, not those of folders inside), or patterns such as
            `photos/**/*.jpg`.
        model: model folder, or an open model.
        tasks: head names; None: all.
        out: folder for the results; made where it does not exist.
        raw: "npy" beside the other formats.
        formats: "png" renderings, "npy" decoded values in their unit, "png16" values as 16-bit
            integers, "json" a summary.
        long_side: as in `MedusaModel.predict`.
        tile: as in `MedusaModel.predict`.
        resume: leave out images whose results are there, and newer than the image and the heads.
            Other options must be the same as before; results are not opened.
        device: where to compute.
        execution: how networks are run; None: prepared for inference, in float32.
        host: None: the installed plugins.
        progress: counts images.

    Returns:
        `images`: the files written for each; `skipped`: images that were done before; `failed`:
        images that could not be read, with the reason; the others are done all the same.

    Raises:
        UsageError: no images, a result would replace one, or a format that does not fit.
        DataError: `out` cannot be written.
        ExecutionError: the networks cannot be run as asked.
        PluginError: the plugin of a head failed.
    """
    progress = progress or SilentProgress()
    files = list(find_images(images))
    model = preparation.opened(model, tasks, device, host, execution)
    names = model.select(tasks)
    if not names:
        raise UsageError("This model has no heads yet.", hint="Add one: medusa add-task TASK")
    specs = [model.tasks[name].spec for name in names]
    formats = results.check_formats((*formats, *(["npy"] if raw else [])), specs)
    folder = Path(out)
    stems = results.unique_stems(files)

    def targets(stem: str) -> list[Path]:
        return [results.path_of(folder, stem, name, form) for name in names for form in formats]

    _spare_inputs(files, [path for stem in stems for path in targets(stem)])
    _make_folder(folder)
    trained = _trained(model, names)
    todo, skipped = [], []
    for file, stem in zip(files, stems, strict=True):
        if resume and _is_done(file, targets(stem), trained):
            skipped.append(str(file))
        else:
            todo.append((file, stem))

    def read(file: Path) -> tuple[np.ndarray, Views]:
        image = as_image(file)
        return image, model.scaled(image, names, long_side)

    def write(stem: str, image: np.ndarray, outputs: dict[str, Tensor]) -> list[dict[str, Any]]:
        return [
            results.write(model.tasks[r.head], folder, stem, image, r, formats)
            for r in model.results(outputs, image.shape[:2]).values()
        ]

    compute = torch.inference_mode()(lambda views: model.run(views, tile))
    progress.start("Predicting", len(todo))
    done, failed = _overlapped(todo, read, compute, write, progress)
    progress.finish()
    return {
        "schema_version": 1,
        "model": str(model.path),
        "out": str(folder),
        "images": done,
        "skipped": skipped,
        "failed": failed,
        "ok": not failed,
    }


def _overlapped(
    todo: Iterable[tuple[Path, str]],
    read: Callable[[Path], tuple[np.ndarray, Views]],
    compute: Callable[[Views], dict[str, Tensor]],
    write: Callable[[str, np.ndarray, dict[str, Tensor]], list[dict[str, Any]]],
    progress: Progress,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was written for each (file, stem), in order, and what could not be read.

    This thread computes, two others read and write; a few images are under way at a time.
    """
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    writing: deque[tuple[Path, Future[list[dict[str, Any]]]]] = deque()

    def collect(waiting: int) -> None:
        while len(writing) > waiting:
            file, written = writing.popleft()
            done.append({"image": str(file), "results": written.result()})

    with ThreadPoolExecutor(2, "medusa-predict") as pool:
        try:
            for (file, stem), loading in _ahead(pool, lambda item: read(item[0]), todo):
                try:
                    image, views = loading.result()
                    outputs = compute(views)
                except (ExecutionError, PluginError):  # not a matter of this image
                    raise
                except MedusaError as err:
                    text = err.message if str(file) in err.message else f"{file}: {err.message}"
                    failed.append({"image": str(file), "error": text})
                else:
                    writing.append((file, pool.submit(write, stem, image, outputs)))
                    collect(AHEAD)
                progress.advance()
            collect(0)
        finally:
            pool.shutdown(cancel_futures=True)
    return done, failed


def _ahead(
    pool: ThreadPoolExecutor, make: Callable[[Item], Made], items: Iterable[Item]
) -> Iterator[tuple[Item, Future[Made]]]:
    """Each item with what is made of it, in order, a few ahead of time."""
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(make, item)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def find_images(paths: Iterable[str | Path]) -> Iterable[Path]:
    """The files named, the images of the folders named, and those that patterns match.

    Raises:
        UsageError: a path does not exist, or there is no image at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += _images(path.iterdir())
        elif path.exists():
            found.append(path)
        elif glob.has_magic(str(path)):
            found += _images(map(Path, glob.iglob(str(path), recursive=True)))
        else:
            raise UsageError(f"{path}: no such file.")
    if not found:
        raise UsageError("There are no images to predict.", hint="Name image files or folders.")
    return dict.fromkeys(found)


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(p for p in paths if p.suffix.lower() in EXTENSIONS)


def _spare_inputs(files: Iterable[Path], targets: Iterable[Path]) -> None:
    """Refuse to write over an image that is to be read."""
    inputs = {file.resolve() for file in files}
    for path in targets:
        if path.resolve() in inputs:
            raise UsageError(
                f"{path}: is one of the images, and would be overwritten by a result.",
                hint="Choose another folder: --out DIR",
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"{folder}: cannot be made: {err.strerror}.") from err


def _trained(model: MedusaModel, names: Iterable[str]) -> float:
    """When the newest of these heads was written into the model folder, in seconds."""
    layout = Layout(model.path)
    files = [path for name in names for path in layout.head(name).glob("*/head.json")]
    return max((path.stat().st_mtime for path in files), default=0.0)


def _is_done(file: Path, targets: Iterable[Path], trained: float) -> bool:
    """Whether all results are there, none older than the image or the heads."""
    try:
        changed = max(trained, os.stat(file).st_mtime)
        return all(os.stat(path).st_mtime >= changed for path in targets)
    except OSError:
        return False
