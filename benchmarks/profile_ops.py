"""Where the time of a network goes: each operation of one run, repeated on its own.

On a busy machine this says more than a profiler: the fastest of many repetitions is shown.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import click
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.costs import BACKBONE, TIMED_SIZE, head_of
from benchmarks.peers.host import peers_host
from medusa_core.backbones.timm_backbone import build, describe
from medusa_core.cli._options import SIZE
from medusa_core.model.inference import keep_memory, prepare


class OperationTimer(TorchDispatchMode):
    """Collects seconds of every operation, by (name, shapes of its tensors)."""

    def __init__(self, wait: Callable[[], object], repeats: int = 15) -> None:
        super().__init__()
        self.wait = wait
        self.repeats = repeats
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        best = float("inf")
        for _ in range(self.repeats):
            self.wait()
            started = time.perf_counter()
            result = func(*args, **(kwargs or {}))
            self.wait()
            best = min(best, time.perf_counter() - started)
        shapes = " ".join("×".join(map(str, s)) for s in _shapes(args))
        self.seconds[func.__name__.partition(".")[0], shapes].append(best)
        return result


def _shapes(args: Any) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for arg in args:
        if isinstance(arg, torch.Tensor):
            found.append(tuple(arg.shape))
        elif isinstance(arg, (list, tuple)):
            found += _shapes(arg)
    return found[:4]


def profile(
    run: Callable[[], object], wait: Callable[[], object]
) -> list[tuple[str, str, int, float]]:
    """The operations of a run, dearest first: name, shapes, calls, microseconds in all."""
    with torch.no_grad(), OperationTimer(wait) as timer:
        run()
    rows = [(n, s, len(t), sum(t) * 1e6) for (n, s), t in timer.seconds.items()]
    return sorted(rows, key=lambda row: -row[3])


@click.command()
@click.option("--task", default="depth", show_default=True, help="Whose head, untrained.")
@click.option("--plain", is_flag=True, help="Networks as trained, not prepared.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute: cpu, cuda.")
@click.option("--batch", default=1, show_default=True, help="Images.")
@click.option("--size", type=SIZE, default="{}x{}".format(*TIMED_SIZE), show_default=True)
@click.option("--top", default=15, show_default=True, help="Rows of each table.")
def main(task: str, plain: bool, device: str, batch: int, size: tuple[int, int], top: int) -> None:
    """Print where the time of the backbone and of a head goes."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_memory()
    torch.manual_seed(0)
    built = build(describe(BACKBONE)).freeze()
    networks = built.to(device), head_of(peers_host(), None, built.info, task).eval().to(device)
    backbone, head = networks if plain else map(prepare, networks)
    images = torch.rand(batch, 3, *size, device=device)
    wait = torch.cuda.synchronize if images.is_cuda else lambda: None
    with torch.no_grad():
        features = backbone(images)
        head(features)
    for name, run in {BACKBONE: lambda: backbone(images), task: lambda: head(features)}.items():
        rows = profile(run, wait)
        print(f"{name}: {sum(row[3] for row in rows) / 1e3:.1f} ms")
        for operation, shapes, calls, microseconds in rows[:top]:
            print(f"{microseconds:8.0f} µs {calls:4d} × {operation:28s} {shapes}")


if __name__ == "__main__":
    main()
