"""Files that hold results: their endings, their formats, and written whole or not at all."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from medusa_core.api import Task, TaskSpec
from medusa_core.errors import DataError, UnknownNameError, UsageError
from medusa_core.model.medusa_model import Result

FORMATS = {"png": ".png", "npy": ".npy", "png16": ".16.png", "json": ".json"}
"""Format → ending of its files: a rendering, values, values as 16-bit integers, a summary."""

_FIELDS = {"png": "rendering", "npy": "values", "png16": "values16", "json": "summary"}
_MILLIMETRES = 0.001
_LARGEST = 65535


def check_formats(formats: Iterable[str], specs: Iterable[TaskSpec]) -> tuple[str, ...]:
    """Formats, each once, that all tasks have a form for.

    Raises:
        UnknownNameError: there is no such format.
        UsageError: a task's values are no single number a pixel, or know no bounds.
    """
    chosen = tuple(dict.fromkeys(formats))
    for name in chosen:
        if name not in FORMATS:
            raise UnknownNameError("format", name, FORMATS)
    for spec in specs if "png16" in chosen else ():
        scale_of(spec)
    return chosen


def scale_of(spec: TaskSpec) -> tuple[float, float]:
    """(scale, offset) of 16-bit images: value = pixel × scale + offset.

    Classes are themselves; metres that are never negative become millimetres, unless their range
    goes beyond 65.535 m; all else is spread over its range.

    Raises:
        UsageError: see `check_formats`.
    """
    output = spec.output
    low, high = output.range
    if output.kind == "dense" and output.activation == "argmax":
        return 1.0, 0.0
    if output.kind == "dense" and spec.target.channels is None:  # as decoded values, too
        fits = low is not None and low >= 0 and (high or 0) <= _LARGEST * _MILLIMETRES
        if output.unit == "m" and fits:
            return _MILLIMETRES, 0.0
        if low is not None and high is not None:
            return (high - low) / _LARGEST, low
    raise UsageError(
        f"Results of {spec.name!r} cannot be 16-bit images: one number a pixel is needed, of a "
        "known range or in metres that are never negative.",
        hint="Choose heads with --tasks, or another format: npy.",
    )


def path_of(folder: Path, stem: str, head: str, form: str) -> Path:
    """Where a result is written."""
    return folder / f"{stem}.{head}{FORMATS[form]}"


def write(
    task: Task, folder: Path, stem: str, image: np.ndarray, result: Result, formats: Sequence[str]
) -> dict[str, Any]:
    """Write one result in each format; what `--json` tells about it.

    Raises:
        DataError: a file cannot be written.
    """
    entry: dict[str, Any] = {"head": result.head, "task": result.task, "unit": result.unit}
    if result.labels is not None:
        entry["labels"] = list(result.labels.names)
    if result.value.ndim < 2:
        entry["value"] = result.value.tolist()
        if result.labels is not None and isinstance(entry["value"], int):
            entry["label"] = result.labels.names[entry["value"]]
    for form in formats:
        path = path_of(folder, stem, result.head, form)
        if form == "png16":
            entry["scale"], entry["offset"] = scale_of(task.spec)
        write_whole(path, _writer(form, task, image, result))
        entry[_FIELDS[form]] = str(path)
    return entry


def write_whole(path: Path, write_to: Callable[[BinaryIO], object]) -> None:
    """Under a name that is this thread's alone first, so that a file that is there is complete.

    Raises:
        DataError: it cannot be written.
    """
    part = path.with_name(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.unlink(missing_ok=True)  # of a process that was killed
        with part.open("xb") as file:  # never through a link
            write_to(file)
        os.replace(part, path)
    except OSError as err:
        raise DataError(
            f"{path}: cannot be written: {err.strerror or err}.",
            hint="Choose another folder: --out DIR",
        ) from err
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _writer(
    form: str, task: Task, image: np.ndarray, result: Result
) -> Callable[[BinaryIO], object]:
    if form == "npy":
        return lambda file: np.save(file, result.value)
    if form == "json":
        text = json.dumps(summary(result), indent=1, allow_nan=False) + "\n"
        return lambda file: file.write(text.encode())
    picture = _drawn(task, image, result) if form == "png" else as_16_bit(task.spec, result)
    return lambda file: Image.fromarray(picture).save(file, format="PNG")


def _drawn(task: Task, image: np.ndarray, result: Result) -> np.ndarray:
    """The picture; whoever draws it cannot change what other files show or say."""
    return task.render(_unchangeable(image), _unchangeable(result.value))


def _unchangeable(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def as_16_bit(spec: TaskSpec, result: Result) -> np.ndarray:
    """`(H, W) uint16`: what `scale_of` says; 65535 is that or more, 0 also not a number."""
    scale, offset = scale_of(spec)
    pixels = np.nan_to_num((result.value - offset) / scale, nan=0.0)
    return np.rint(pixels).clip(0, _LARGEST).astype(np.uint16)


def summary(result: Result) -> dict[str, Any]:
    """A result in a few numbers: the value of a global task, shares of classes, or statistics."""
    value = result.value
    found: dict[str, Any] = {"head": result.head, "task": result.task, "unit": result.unit}
    if value.ndim < 2:
        shown = np.asarray(value, object)
        shown[~np.isfinite(value)] = None  # JSON has no NaN
        return {**found, "value": shown.tolist()}
    found["size"] = list(value.shape[-2:])
    if result.labels is not None and np.issubdtype(value.dtype, np.integer):
        counts = np.bincount(value.ravel(), minlength=len(result.labels.names)) / value.size
        shares = zip(result.labels.names, counts.tolist(), strict=True)
        return {**found, "shares": {name: share for name, share in shares if share > 0}}
    finite = value[np.isfinite(value)]
    if finite.size:
        mean = finite.mean(dtype=np.float64)  # the sum of large ones would be infinite
        found |= {"min": float(finite.min()), "mean": float(mean), "max": float(finite.max())}
    return found
