"""`medusa predict`: renderings and raw values for image files."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medusa_core.data.images import read_rgb
from medusa_core.errors import DataError, MedusaError, PluginError, UsageError
from medusa_core.model.medusa_model import MedusaModel, Result, open_model
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.workflows import preparation

LONGEST_STEM = 200
"""Bytes; with the name of a head and an extension it stays below the 255 of a file's name."""
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def predict(
    images: Sequence[str | Path],
    *,
    model: str | Path | MedusaModel = "medusa-model",
    tasks: Sequence[str] | None = None,
    out: str | Path = "out",
    raw: bool = False,
    long_side: int | None = None,
    device: str | None = None,
    host: Host | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `<stem>.<head>.png` renderings, and with `raw` `<stem>.<head>.npy` decoded values.

    Args:
        images: files, or folders (their images, not those of folders inside).
        model: model folder, or an open model.
        tasks: head names; None: all.
        out: folder for the results; made where it does not exist.
        raw: also write values, in their unit.
        long_side: as in `MedusaModel.predict`.
        device: where to compute.
        host: None: the installed plugins.
        progress: counts images.

    Returns:
        `images`: the files written for each; `failed`: images that could not be read, with the
        reason; the others are done all the same.

    Raises:
        UsageError: no images, or a result would replace one. DataError: `out` cannot be written.
        PluginError: the plugin of a head failed.
    """
    progress = progress or SilentProgress()
    files = list(find_images(images))
    if not isinstance(model, MedusaModel):
        model = open_model(model, tasks, preparation.choose_device(device), host)
    names = model.select(tasks)
    if not names:
        raise UsageError("This model has no heads yet.", hint="Add one: medusa add-task TASK")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"{folder}: cannot be made: {err.strerror}.") from err
    stems = unique_stems(files)
    _spare_inputs(files, [folder / f"{stem}.{name}.png" for stem in stems for name in names])
    done, failed = [], []
    progress.start("Predicting", len(files))
    for file, stem in zip(files, stems, strict=True):
        try:
            image = read_rgb(file)
            results = model.predict(image, names, long_side)
        except PluginError:  # not a matter of this image
            raise
        except MedusaError as err:
            text = err.message if str(file) in err.message else f"{file}: {err.message}"
            failed.append({"image": str(file), "error": text})
        else:
            written = [_write(model, folder, stem, image, r, raw) for r in results.values()]
            done.append({"image": str(file), "results": written})
        progress.advance()
    progress.finish()
    return {
        "schema_version": 1,
        "model": str(model.path),
        "out": str(folder),
        "images": done,
        "failed": failed,
        "ok": not failed,
    }


def find_images(paths: Iterable[str | Path]) -> Iterable[Path]:
    """The files named, and the images of the folders named, in order of name.

    Raises:
        UsageError: a path does not exist, or there is no image at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS)
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such file.")
    if not found:
        raise UsageError("There are no images to predict.", hint="Name image files or folders.")
    return dict.fromkeys(found)


def unique_stems(files: Sequence[Path]) -> list[str]:
    """Names of results: the stem of the file, with a short hash of its path where stems clash.

    Names that differ in case only clash too, since some file systems do not tell them apart. A
    stem so long that no file could be called like its results is cut, and marked in the same way.
    """
    folded = Counter(file.stem.casefold() for file in files)
    return [
        file.stem
        if folded[file.stem.casefold()] == 1 and len(os.fsencode(file.stem)) <= LONGEST_STEM
        else f"{_cut(file.stem)}-{hashlib.sha256(os.fsencode(file.absolute())).hexdigest()[:8]}"
        for file in files
    ]


def _cut(stem: str) -> str:
    return os.fsencode(stem)[: LONGEST_STEM - 9].decode(errors="ignore")


def _spare_inputs(files: Iterable[Path], renderings: Iterable[Path]) -> None:
    """Refuse to write over an image that is to be read."""
    inputs = {file.resolve() for file in files}
    for path in renderings:
        if path.resolve() in inputs:
            raise UsageError(
                f"{path}: is one of the images, and would be overwritten by a result.",
                hint="Choose another folder: --out DIR",
            )


def _write(
    model: MedusaModel, folder: Path, stem: str, image: np.ndarray, result: Result, raw: bool
) -> dict[str, Any]:
    rendering = model.tasks[result.head].render(image, result.value)
    picture = folder / f"{stem}.{result.head}.png"
    entry: dict[str, Any] = {
        "head": result.head,
        "task": result.task,
        "unit": result.unit,
        "rendering": str(picture),
    }
    if result.labels is not None:
        entry["labels"] = list(result.labels.names)
    if result.value.ndim < 2:
        entry["value"] = result.value.tolist()
    try:
        Image.fromarray(rendering).save(picture)
        if raw:
            values = folder / f"{stem}.{result.head}.npy"
            np.save(values, result.value)
            entry["values"] = str(values)
    except OSError as err:
        raise DataError(
            f"{picture}: cannot be written: {err.strerror or err}.",
            hint="Choose another folder: --out DIR",
        ) from err
    return entry
