"""Images on their way into the network, predictions on their way back to the size of the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from medusa_core.api import Task, TaskSpec
from medusa_core.backbones.timm_backbone import LEVEL_STRIDES
from medusa_core.data.images import read_rgb
from medusa_core.errors import DataError, UsageError
from medusa_core.model.upsampling import upsample

STRIDE = max(LEVEL_STRIDES)
"""Images are padded to multiples of this."""

MIN_SIDE = 16
"""Images with a shorter side are refused."""


def working_size(
    trained: Sequence[int], picture: Sequence[int], long_side: int | None = None
) -> tuple[int, int]:
    """(H, W) at which networks look at a picture: the scale they were trained at.

    Args:
        trained: (H, W) that pictures were fitted into in training, portraits and landscapes alike.
        picture: (H, W).
        long_side: length of the longer side instead.

    Raises:
        UsageError: the longer side is to have less than `MIN_SIDE` pixels.
    """
    if long_side is not None and long_side < MIN_SIDE:
        raise UsageError(f"--size {long_side}: at least {MIN_SIDE} pixels are needed.")
    scale = long_side / max(picture) if long_side else fitted_scale(trained, picture)
    height, width = (max(MIN_SIDE, round(side * scale)) for side in picture)
    return height, width


def fitted_scale(trained: Sequence[int], picture: Sequence[int]) -> float:
    """How many times as large as it is networks look at a picture, at what they were trained at."""
    return min(size / side for size, side in zip(trained, picture, strict=True))


def undo_zoom(
    value: Tensor,
    spec: TaskSpec,
    trained: Sequence[int],
    picture: Sequence[int],
    long_side: int | None,
) -> Tensor:
    """Decoded predictions for the picture, of what was shown at another scale than trained at.

    Training teaches what enlarging does to the values of a target (`zoom`): what seems k times as
    large is k times as near. A picture that is shown k times as large has the distances of one
    shown as it was in training, so they are multiplied by k.

    Args:
        value: `(B, …)`, as `Task.decode` returns it.
        spec: of the task.
        trained: see `working_size`.
        picture: see there.
        long_side: see there; None: the picture is shown as in training.
    """
    if long_side is None or spec.target.zoom != "divide":
        return value
    return value * (long_side / max(picture) / fitted_scale(trained, picture))


def own_levels(features: Sequence[Tensor]) -> list[Tensor]:
    """Copies for one head: if it works in place, the heads after it must not see that."""
    return [level.clone() for level in features]


def finish(raw: Tensor, task: Task, size: tuple[int, int], stride: int = 1) -> Tensor:
    """A head's output at the (H, W) of the unpadded image, or its mean there for a global task.

    With a `stride`: every stride-th row and column of it.
    """
    padded = [side + -side % STRIDE for side in size]
    if task.spec.output.kind == "global":
        pairs = zip(size, padded, raw.shape[-2:], strict=True)
        rows, columns = (-(-side * cells // whole) for side, whole, cells in pairs)
        return raw[..., :rows, :columns].mean(dim=(2, 3))
    height, width = (-(-side // stride) for side in size)
    return upsample(raw, (padded[0], padded[1]), stride)[..., :height, :width]


def mean_inside(raw: Tensor, inside: Tensor) -> Tensor:
    """`(B, C)`: means of a head's output over the pixels of a `(B, H, W) bool` mask; 0 of none.

    As in `finish`, a cell counts where one of its pixels does.
    """
    height, width = inside.shape[1:]
    pixels = F.pad(inside.float(), (0, -width % STRIDE, 0, -height % STRIDE)).unsqueeze(1)
    cells = F.adaptive_max_pool2d(pixels, raw.shape[-2:]) > 0
    return raw.masked_fill(~cells, 0).sum(dim=(2, 3)) / cells.sum(dim=(2, 3)).clamp_min(1)


def as_image(source: str | Path | np.ndarray) -> np.ndarray:
    """`(H, W, 3) uint8` from a file or an array.

    Raises:
        DataError: not an image, or too small.
    """
    if not isinstance(source, (str, Path, np.ndarray)):
        raise DataError(
            f"Images must be files or (H, W, 3) uint8 arrays, got {type(source).__name__}.",
            hint="Of a Pillow image: numpy.asarray(image.convert('RGB'))",
        )
    if isinstance(source, np.ndarray):
        image = source
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(f"Images must be (H, W, 3) uint8, got {image.shape} {image.dtype}.")
    else:
        image = read_rgb(Path(source))
    if min(image.shape[:2]) < MIN_SIDE:
        where = "The image" if isinstance(source, np.ndarray) else f"{source}"
        raise DataError(
            f"{where}: {image.shape[1]}×{image.shape[0]} is too small, at least {MIN_SIDE} pixels "
            "a side are needed."
        )
    return image


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`(H, W, 3) uint8` at another (H, W), antialiased; itself where the size agrees."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def to_tensor(images: np.ndarray) -> Tensor:
    """`(H, W, 3)` or `(B, H, W, 3) uint8` → `(B, 3, H, W) float32` in [0, 1], channels last."""
    batch = torch.from_numpy(np.array(images if images.ndim == 4 else images[None]))
    return batch.permute(0, 3, 1, 2).float() / 255
