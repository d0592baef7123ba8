"""`medusa export`: a backbone and its heads as one file that runs without Medusa."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medusa_core import __version__
from medusa_core.data.geometry import Size
from medusa_core.errors import UsageError
from medusa_core.extras import require_extra
from medusa_core.model.execution import Execution
from medusa_core.model.exporting import FORMATS, INPUT, MOST, Decoded, exported
from medusa_core.model.images import MIN_SIDE
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import outside, records
from medusa_core.workflows import preparation

MAX_BATCH = 1024


def export(
    output: str | Path | None = None,
    *,
    model: str | Path = "medusa-model",
    tasks: Sequence[str] | None = None,
    size: Size | None = None,
    batch: int = 1,
    replace: bool = False,
    host: Host | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a backbone and its heads to one file that PyTorch or ONNX Runtime runs without Medusa.

    The file computes the values of each head from images; it does not scale images. Before it is
    written it is compared with the model, on images of noise.

    Args:
        output: the file, `.pt2` (`torch.export`) or `.onnx` (the extra `onnx`); None: `MODEL.pt2`
            here.
        model: the model folder. It is not changed.
        tasks: head names; None: all usable ones.
        size: (H, W) of all images; None: any multiples of 32, from 64 to 4096, and batches of up to
            128.
        batch: images at a time, where `size` is given.
        replace: whether a file that is there is replaced.
        host: None: the installed plugins.
        progress: told what is happening.

    Returns:
        The file, its bytes and sha256, how far its values `moved` from those of the model, and what
        is in it, which the file itself holds, too: `images` (what it reads) and `heads` (task,
        unit, names of classes, the (H, W) of the training).

    Raises:
        UsageError: another ending, a size or batch that cannot be, or the extra is missing.
        StoreError: the file is there, lies in the model folder, or cannot be written.
        ExecutionError: PyTorch cannot export these heads, or what was exported says something else.
        UnknownNameError, PluginError: a head does not exist, or cannot be used.
    """
    progress = progress or SilentProgress()
    path = Path(output if output is not None else f"{Path(model).resolve().name}.pt2")
    ending = _checked_ending(path)
    shape = _checked_shape(size, batch)
    may_write = partial(outside.require_free, model=Path(model), replace=replace)
    may_write(path)
    opened = preparation.opened(model, tasks, "cpu", host, Execution("plain"))
    names = opened.require_some(tasks)
    if shape is None and "strict_img_size" in opened.backbone.description.kwargs:
        raise UsageError(
            f"{opened.record.name} divides images into windows, whose number depends on their "
            "size: it is exported for one size.",
            hint="Add the size of your images: --size HxW",
        )
    whole = [name for name in names if opened.tasks[name].spec.output.kind == "global"]
    if shape is None and whole:
        raise UsageError(
            f"{', '.join(whole)}: one value an image. What images are padded with would count, so "
            "such heads are exported for one size.",
            hint="Add the size of your images: --size HxW. Or leave them out: --tasks",
        )
    if INPUT in names:
        raise UsageError(
            f"A head cannot be called {INPUT!r} in such a file: that is what it reads.",
            hint=f"medusa rename-head {INPUT} NAME",
        )
    about = describe(opened, names, shape)
    progress.message(f"Exporting {opened.record.name} with {', '.join(names)} …")
    stored = json.dumps({"schema_version": 1, **about})
    data, moved = exported(Decoded(opened, names), ending, shape, stored)
    outside.write(path, data, may_write)
    return {
        **about,
        "model": str(model),
        "file": str(path),
        "bytes": len(data),
        "sha256": records.sha256(data),
        "moved": moved,
        "unusable": preparation.unusable(opened, tasks),
    }


def describe(
    model: MedusaModel, names: Sequence[str], shape: tuple[int, Size] | None
) -> dict[str, Any]:
    """What a file says about itself."""
    stride = model.backbone.stride
    batch, (height, width) = shape or (None, (None, None))
    return {
        "medusa": __version__,
        "backbone": model.record.name,
        "fingerprint": model.record.fingerprint,
        "images": {
            "name": INPUT,
            "batch": batch,
            "height": height,
            "width": width,
            "multiple_of": None if shape else stride,
            "largest": None if shape else MOST * stride,
            "colours": "RGB",
            "range": [0.0, 1.0],
            "padding": [round(float(value), 6) for value in model.backbone.mean.flatten()],
        },
        "heads": {
            name: {
                "task": model.heads[name].task,
                "unit": model.heads[name].unit,
                "classes": list(labels.names) if (labels := model.tasks[name].labels) else None,
                "trained_at": list(model.heads[name].size),
            }
            for name in names
        },
    }


def _checked_ending(path: Path) -> str:
    ending = path.suffix
    if ending not in FORMATS:
        raise UsageError(
            f"{path}: ends in neither {' nor '.join(FORMATS)}.",
            hint="-o heads.pt2 for PyTorch, -o heads.onnx for ONNX",
        )
    if ending == ".onnx":
        require_extra("onnx", "Writing ONNX files", "onnxruntime", "onnxscript")
    return ending


def _checked_shape(size: Size | None, batch: int) -> tuple[int, Size] | None:
    if not 1 <= batch <= MAX_BATCH:
        raise UsageError(f"--batch {batch}: 1 to {MAX_BATCH} are possible.")
    if size is None:
        if batch != 1:
            raise UsageError(
                f"--batch {batch}: without a size, batches of any number can be given.",
                hint="Leave --batch out, or add --size HxW.",
            )
        return None
    if not all(MIN_SIDE <= side <= preparation.MAX_SIZE for side in size):
        raise UsageError(
            f"--size {size[0]}x{size[1]}: {MIN_SIDE} to {preparation.MAX_SIZE} pixels a side are "
            "possible."
        )
    return batch, size
