"""Where the time of a network goes: each operation of one run, repeated on its own.

On a busy machine this says more than a profiler: the fastest of many repetitions is shown. Bytes
are those of the tensors that an operation reads and writes; of the same on its own, caches spare
some. On a graphics card their rate tells which operations are slower than its memory.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
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
    """Collects seconds and bytes of every operation, by (name, shapes of its tensors)."""

    def __init__(self, wait: Callable[[], object], repeats: int = 15) -> None:
        super().__init__()
        self.wait = wait
        self.repeats = repeats
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.bytes: dict[tuple[str, str], int] = defaultdict(int)

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
        given, made = _tensors(args), _tensors([result])
        shapes = " ".join("×".join(map(str, tensor.shape)) for tensor in given[:4])
        key = func.__name__.partition(".")[0], shapes
        self.seconds[key].append(best)
        if func._schema.is_mutable or not _is_view(made, given):
            self.bytes[key] += sum(t.numel() * t.element_size() for t in [*given, *made])
        return result


def _tensors(args: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for arg in args:
        if isinstance(arg, torch.Tensor):
            found.append(arg)
        elif isinstance(arg, (list, tuple)):
            found += _tensors(arg)
    return found


def _is_view(made: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> bool:
    """Whether nothing is read or written, only described in another way."""
    known = {t.untyped_storage()._cdata for t in given if not t.is_mkldnn}
    return all(not t.is_mkldnn and t.untyped_storage()._cdata in known for t in made)


def profile(
    run: Callable[[], object], wait: Callable[[], object]
) -> list[tuple[str, str, int, float, int]]:
    """The operations of a run, dearest first: name, shapes, calls, microseconds, bytes in all."""
    with torch.no_grad(), OperationTimer(wait) as timer:
        run()
    rows = [(*key, len(t), sum(t) * 1e6, timer.bytes[key]) for key, t in timer.seconds.items()]
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
        whole = sum(row[3] for row in rows) / 1e3
        print(f"{name}: {whole:.1f} ms, {sum(row[4] for row in rows) / 1e6:.0f} MB")
        for operation, shapes, calls, microseconds, moved in rows[:top]:
            rate = moved / max(microseconds, 1e-3) / 1e3
            print(f"{microseconds:8.0f} µs {rate:5.0f} GB/s {calls:4d} × {operation:28s} {shapes}")


if __name__ == "__main__":
    main()
