"""`medusa bench`: what a model costs on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch

from medusa_core.errors import UsageError
from medusa_core.model.execution import Execution
from medusa_core.model.images import MIN_SIDE
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.model.recording import PATIENCE, is_light
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.workflows import preparation

WARM_UP = 2
Part = tuple[str, str]
"""(kind, name), since a head may be called like anything."""
BACKBONE, ALL = ("backbone", "backbone"), ("all", "backbone and heads")
TO_SIZE = ("all", "with resampling")
Key = TypeVar("Key")


def bench(
    model: str | Path | MedusaModel = "medusa-model",
    *,
    tasks: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    batch: int = 1,
    rounds: int = 20,
    threads: int | None = None,
    device: str | None = None,
    execution: Execution | None = None,
    host: Host | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time the backbone, each head, and all together, in turns.

    Args:
        model: model folder, or an open model.
        tasks: head names; None: all.
        size: (H, W) of the images; None: what the first head was trained at.
        batch: images at a time.
        rounds: timed runs of each.
        threads: of the CPU; None: as PyTorch chooses.
        device: where to compute.
        execution: how networks are run; None: prepared for inference, in float32.
        host: None: the installed plugins.
        progress: counts rounds.

    Returns:
        `rows`: milliseconds a batch (median, lowest, highest), share of the backbone, images a
        second; `peak_memory_mb`: of this process, or of the GPU, in 10⁶ bytes.

    Raises:
        UsageError: the model has no heads, or a number is too small.
        ExecutionError: the networks cannot be run as asked.
    """
    for name, value in (("batch", batch), ("rounds", rounds), ("threads", threads)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: at least 1 is needed.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        opened = preparation.opened(model, tasks, device, host, execution)
        names = opened.require_some(tasks)
        height, width = size or opened.heads[names[0]].size
        if min(height, width) < MIN_SIDE:
            raise UsageError(f"--size {height}x{width}: at least {MIN_SIDE} pixels are needed.")
        images = torch.rand(batch, 3, height, width).to(opened.backbone.mean.device)
        seconds = _measure(opened, images, names, rounds, progress or SilentProgress())
        return {
            "model": str(opened.path),
            "backbone": opened.record.name,
            "execution": str(opened.execution),
            "device": str(images.device),
            "threads": torch.get_num_threads(),
            "size": [height, width],
            "batch": batch,
            "rounds": rounds,
            "rows": _rows(seconds, batch),
            "peak_memory_mb": peak_memory(images.device),
        }
    finally:
        torch.set_num_threads(before)


def _measure(
    model: MedusaModel,
    images: torch.Tensor,
    names: Sequence[str],
    rounds: int,
    progress: Progress,
) -> dict[Part, list[float]]:
    backbone, heads, everything = model.parts(images, names)
    with torch.inference_mode():
        for _ in range(PATIENCE if is_light(model.backbone) else 0):
            backbone()  # it is timed as it is run from then on
    runs: dict[Part, Callable[[], object]] = {
        BACKBONE: backbone,
        **{("head", name): head for name, head in heads.items()},
        ALL: everything,
        TO_SIZE: lambda: model(images, names),
    }
    on_card = images.device.type == "cuda"
    synchronise = partial(torch.cuda.synchronize, images.device) if on_card else None
    return interleaved(runs, rounds, time.perf_counter, synchronise, progress)


@torch.inference_mode()
def interleaved(
    runs: Mapping[Key, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float],
    synchronise: Callable[[], object] | None = None,
    progress: Progress | None = None,
) -> dict[Key, list[float]]:
    """Seconds of every run in every round; runs take turns, so that disturbances hit all alike.

    Each is run once before it is timed: caches hold what is its own, as with a stream of images,
    not what its predecessor left.

    Args:
        runs: name → what is timed.
        rounds: how often each.
        clock: seconds.
        synchronise: waits for the device.
        progress: counts rounds.
    """
    progress = progress or SilentProgress()
    seconds: dict[Key, list[float]] = {name: [] for name in runs}
    progress.start("Timing", rounds)
    for index in range(-WARM_UP, rounds):
        for name, run in runs.items():
            run()
            if synchronise:
                synchronise()
            started = clock()
            run()
            if synchronise:
                synchronise()
            if index >= 0:
                seconds[name].append(clock() - started)
        if index >= 0:
            progress.advance()
    progress.finish()
    return seconds


def _rows(seconds: Mapping[Part, Sequence[float]], batch: int) -> list[dict[str, Any]]:
    backbone = seconds[BACKBONE]
    return [
        {
            "part": name,
            "kind": kind,
            "ms": median(found) * 1e3,
            "lowest_ms": min(found) * 1e3,
            "highest_ms": max(found) * 1e3,
            "of_backbone": median(a / b for a, b in zip(found, backbone, strict=True)),
            "images_per_second": batch / median(found),
        }
        for (kind, name), found in seconds.items()
    ]


def peak_memory(device: torch.device) -> float | None:
    """Largest memory so far in 10⁶ bytes: of the GPU, or of this process; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
