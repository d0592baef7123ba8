"""Images too large for one pass: overlapping tiles, blended so that no seam can be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from medusa_core.errors import UsageError
from medusa_core.model.images import STRIDE

MIN_TILE = 4 * STRIDE


def blended(
    images: Tensor, run: Callable[[Tensor], Mapping[str, Tensor]], tile: int | None
) -> dict[str, Tensor]:
    """Predictions for images of any size from parts of at most `tile` pixels a side.

    Tiles overlap by a quarter or more, and start at multiples of the stride, where the network's
    grids lie as in the whole image. In an overlap, weights fall linearly towards the inner edges.

    Args:
        images: `(B, 3, H, W)`.
        run: predictions by name, `(B, C, h, w)` for a part of `(h, w)`, or `(B, C)`.
        tile: None: one part.

    Returns:
        Name → `(B, C, H, W)`, or the mean over tiles, `(B, C)`.

    Raises:
        UsageError: the tile is too small.
    """
    if tile is not None and tile < MIN_TILE:
        raise UsageError(f"Tiles of {tile} pixels are too small: at least {MIN_TILE} are needed.")
    height, width = images.shape[-2:]
    if tile is None or max(height, width) <= tile:
        return dict(run(images))
    rows, columns = _starts(height, tile), _starts(width, tile)
    sums: dict[str, Tensor] = {}
    total = images.new_zeros(height, width)
    for top in rows:
        for left in columns:
            place = (..., slice(top, top + tile), slice(left, left + tile))
            weight = _weights(rows, top, height, tile, images.device)[:, None]
            weight = weight * _weights(columns, left, width, tile, images.device)
            total[place] += weight
            for name, part in run(images[place].contiguous()).items():
                if part.ndim == 2:
                    mean = part / (len(rows) * len(columns))
                    sums[name] = sums[name] + mean if name in sums else mean
                    continue
                if name not in sums:
                    sums[name] = part.new_zeros(*part.shape[:2], height, width)
                sums[name][place] += part * weight
    return {name: s if s.ndim == 2 else s.div_(total) for name, s in sums.items()}


def _starts(side: int, tile: int) -> list[int]:
    """Where tiles begin along one side: as few as overlap by a quarter."""
    if side <= tile:
        return [0]
    step = tile * 3 // 4 // STRIDE * STRIDE
    last = -(-(side - tile) // STRIDE) * STRIDE
    count = -(-last // step)
    return [last * i // count // STRIDE * STRIDE for i in range(count + 1)]


def _weights(starts: list[int], start: int, side: int, tile: int, device: torch.device) -> Tensor:
    """Weights along one side of the tile at `start`, falling where its neighbours begin or end."""
    length = min(tile, side - start)
    position = torch.arange(length, device=device) + 0.5
    weight = torch.ones(length, device=device)
    index = starts.index(start)
    if index > 0:
        overlap = starts[index - 1] + tile - start
        weight = torch.minimum(weight, position / overlap)
    if index + 1 < len(starts):
        overlap = start + tile - starts[index + 1]
        weight = torch.minimum(weight, (length - position) / overlap)
    return weight
