"""`medusa predict` over many JPEG files beside the bare model on tensors in memory.

Both take turns over the same images, so a busy machine slows both down. The model runs on one
thread; files are read and results written by others.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.report import machine, save
from medusa_core.data.images import read_rgb
from medusa_core.model import MedusaModel, open_model
from medusa_core.model.images import resized, to_tensor
from medusa_core.workflows.predict import predict


@click.command()
@click.option("-m", "--model", type=click.Path(exists=True), required=True, help="Model folder.")
@click.option("--task", required=True, help="The one head that is run.")
@click.option("--images", "count", default=1000, show_default=True, help="JPEG files.")
@click.option("--size", type=(int, int), default=(480, 640), show_default=True, help="Of files.")
@click.option("--chunk", default=50, show_default=True, help="Images a turn.")
@click.option("--quick", is_flag=True, help="100 images; nothing is recorded.")
def main(model: str, task: str, count: int, size: tuple[int, int], chunk: int, quick: bool) -> None:
    """Measure, and write results/throughput.json."""
    torch.set_num_threads(1)
    opened = open_model(model, [task])
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder) / "in", 100 if quick else count, size)
        result = {
            "command": f"python -m benchmarks.throughput -m MODEL --task {task} --chunk {chunk}",
            "images": len(files),
            "size": list(size),
            "task": task,
            **measure(opened, task, files, chunk, Path(folder) / "out"),
            **machine(),
        }
    print(json.dumps(result, indent=1))
    if not quick:
        save("throughput", result)


def write_files(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEG files of smooth noise, as large as photographs of that size."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(count):
        small = generator.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
        picture.save(folder / f"{index:05d}.jpg", quality=90)
    return sorted(folder.iterdir())


def measure(
    model: MedusaModel, task: str, files: list[Path], chunk: int, out: Path
) -> dict[str, Any]:
    """Images a second of both, and their ratio, chunk by chunk."""
    working = model.working_size(task, read_rgb(files[0]).shape[:2])
    tensors = [to_tensor(resized(read_rgb(file), working)) for file in files[:chunk]]
    bare(model, task, tensors[:3])
    predict(files[:3], model=model, tasks=[task], out=out, formats=["npy"])
    rows, memory = [], []
    for start in range(0, len(files), chunk):
        part = files[start : start + chunk]
        wall, main_thread = clocked(lambda p=part: bare(model, task, tensors[: len(p)]))
        whole, own = clocked(
            lambda p=part: predict(p, model=model, tasks=[task], out=out, formats=["npy"])
        )
        rows.append((len(part) / wall, len(part) / whole, wall / whole, main_thread / own))
        memory.append(rss_megabytes())
    bare_rate, rate, ratio, thread = (median(column) for column in zip(*rows, strict=True))
    return {
        "working_size": list(working),
        "bare_images_per_second": bare_rate,
        "images_per_second": rate,
        "throughput_of_bare": ratio,
        "spread": [min(row[2] for row in rows), max(row[2] for row in rows)],
        "bare_share_of_main_thread_cpu": thread,
        "megabytes_first_to_last_turn": [memory[0], memory[-1]],
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


@torch.inference_mode()
def bare(model: MedusaModel, task: str, tensors: list[Tensor]) -> None:
    for images in tensors:
        model(images, [task])


def clocked(run: Any) -> tuple[float, float]:
    """Seconds on the wall, and of this thread's processor."""
    wall, own = time.perf_counter(), time.thread_time()
    run()
    return time.perf_counter() - wall, time.thread_time() - own


def rss_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
