"""Where the time of a network goes: each operation of one run, repeated on its own.

On a busy machine this says more than a profiler: the fastest of many repetitions is shown.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OperationTimer(TorchDispatchMode):
    """Collects seconds of every operation, by (name, shapes of its tensors)."""

    def __init__(self, repeats: int = 15) -> None:
        super().__init__()
        self.repeats = repeats
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        best = float("inf")
        for _ in range(self.repeats):
            started = time.perf_counter()
            result = func(*args, **(kwargs or {}))
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


def profile(run: Callable[[], object], top: int = 20) -> list[tuple[str, str, int, float]]:
    """The dearest operations of a run: name, shapes, calls, microseconds in all."""
    with torch.no_grad(), OperationTimer() as timer:
        run()
    rows = [(n, s, len(t), sum(t) * 1e6) for (n, s), t in timer.seconds.items()]
    return sorted(rows, key=lambda row: -row[3])[:top]
