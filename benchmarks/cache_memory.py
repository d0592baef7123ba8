"""A feature cache that is larger than the memory a process may have: anonymous memory stays flat.

The process is forbidden to have more private memory than it has after its first steps, and a little
(RLIMIT_DATA; pages of mapped files do not count). Then it fills a cache several times as large, and
trains a head on all of it, cold (the kernel has dropped its pages) and warm.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.add_task_time import bind, new_head
from benchmarks.report import machine, save
from medusa_core.api import Sample, TargetInfo
from medusa_core.backbones.timm_backbone import build, describe
from medusa_core.data.geometry import fixed_views
from medusa_core.engine.cache_files import Source
from medusa_core.engine.cache_folder import cache_folder
from medusa_core.engine.feature_cache import CachedTask, cache_sizes, cache_tasks
from medusa_core.engine.head_training import HeadTraining
from medusa_core.engine.outcome import TrainSettings
from medusa_core.plugin_host.host import default_host
from medusa_core.progress import SilentProgress

BATCH, VIEWS, SIZE = 16, 4, (128, 160)


class Noise:
    """As many images and depths as wanted, made when they are asked for."""

    name, split = "noise", "train"

    def __init__(self, count: int) -> None:
        self.ids = tuple(map(str, range(count)))
        self.digest, self.targets = f"noise-{count}", {"depth": TargetInfo(unit="m")}

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return SIZE

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """A sample."""
        noise = np.random.default_rng(index)
        depth = noise.random(SIZE, np.float32) + 1
        return Sample(str(index), noise.integers(0, 256, (*SIZE, 3), np.uint8), {"depth": depth})


@click.command()
@click.option("--megabytes", default=2000, show_default=True, help="Size of the cache.")
@click.option("--allowed", default=200, show_default=True, help="Megabytes of memory it may take.")
@click.option("--quick", is_flag=True, help="200 MB, with 100 allowed; nothing is recorded.")
def main(megabytes: int, allowed: int, quick: bool) -> None:
    """Measure, and write results/cache_memory.json."""
    torch.set_num_threads(1)
    if quick:
        megabytes, allowed = 200, 100
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDUSA_CACHE"] = folder
        result = {
            "command": f"python -m benchmarks.cache_memory --megabytes {megabytes} "
            f"--allowed {allowed}",
            **measure(megabytes, allowed),
            **machine(),
        }
    print(json.dumps(result, indent=1))
    if not quick:
        save("cache_memory", result)


def measure(megabytes: int, allowed: int) -> dict[str, Any]:
    """Anonymous memory after each phase, in megabytes beyond that after the first steps."""
    host = default_host()
    torch.manual_seed(0)
    backbone = build(describe("test_resnet")).freeze()

    def cached(count: int) -> CachedTask:
        data = Noise(count)
        source = Source(data, SIZE, fixed_views(VIEWS))
        [task] = cache_tasks(backbone, "0" * 64, source, [bind(host, data, "depth")], quiet)
        return task

    def epoch(task: CachedTask) -> float:
        """Seconds of a training that reads every row once."""
        binding = bind(host, task.source.dataset, "depth")
        head = new_head(host, backbone, binding)
        samples = list(range(len(task.source.dataset)))
        settings = TrainSettings(len(task.source) // BATCH, BATCH, 1e-3)
        with tempfile.TemporaryDirectory() as work:
            parts = samples, samples[:1]
            run = HeadTraining(binding.task, head, task, parts, settings, {}, Path(work))
            started = time.perf_counter()
            run.run(quiet, "")
        return time.perf_counter() - started

    quiet = SilentProgress()
    few = cached(BATCH)
    epoch(few)
    a_sample = sum(cache_sizes_of(backbone, host).values())
    count = megabytes * 10**6 // a_sample
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + allowed * 10**6,) * 2)
    before = anonymous()
    found: dict[str, Any] = {"images": count, "views": VIEWS, "size": list(SIZE)}
    task = cached(count)
    found["cache_megabytes"] = sum(p.stat().st_size for p in cache_folder().iterdir()) / 1e6
    found["beyond_after_filling"] = anonymous() - before
    for state in ("cold", "warm"):
        if state == "cold":
            forget_pages()
        found[f"seconds_{state}"] = epoch(task)
        found[f"beyond_after_{state}_epoch"] = anonymous() - before
    return {"allowed_megabytes": allowed, **found}


def cache_sizes_of(backbone: Any, host: Any) -> dict[Path, int]:
    """File → bytes of one sample."""
    data = Noise(1)
    source = Source(data, SIZE, fixed_views(VIEWS))
    return cache_sizes(backbone, "0" * 64, source, [bind(host, data, "depth")])


def forget_pages() -> None:
    """Have the kernel drop what it holds of the cache's files."""
    for path in cache_folder().iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def anonymous() -> float:
    """Megabytes of anonymous memory of this process."""
    return status("RssAnon") / 1e6


def data_bytes() -> int:
    """What RLIMIT_DATA counts."""
    return status("VmData")


def status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
