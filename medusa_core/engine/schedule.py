"""What a training step needs besides the model: which samples, which learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

WARM_UP = 0.2


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: cosine up to the peak over the first fifth, cosine down to zero."""
    position = (step + 0.5) / steps
    if position < WARM_UP:
        return peak * (0.04 + 0.96 * (1 - math.cos(math.pi * position / WARM_UP)) / 2)
    return peak * (1 + math.cos(math.pi * (position - WARM_UP) / (1 - WARM_UP))) / 2


def batches(samples: Sequence[int], views: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of row numbers; every sample once an epoch, each time in a random view.

    The sequence depends on the arguments alone, so a training is resumed by skipping batches.
    """
    generator = torch.Generator().manual_seed(seed)
    waiting: list[int] = []
    while True:
        while len(waiting) < batch:
            order = torch.randperm(len(samples), generator=generator).tolist()
            chosen = torch.randint(views, (len(samples),), generator=generator).tolist()
            waiting += [samples[i] * views + view for i, view in zip(order, chosen, strict=True)]
        yield waiting[:batch]
        waiting = waiting[batch:]
