"""Made-up feature levels, pictures, samples and data sets: small, fixed, and like real ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from medusa_core.api import FeatureInfo, LabelSchema, Sample, TargetInfo, TaskSpec

FEATURES = {
    "cnn": FeatureInfo(channels=(16, 24, 40, 64), strides=(4, 8, 16, 32)),
    "vit": FeatureInfo(channels=(48,), strides=(14,)),
    "odd": FeatureInfo(channels=(7, 13, 5, 31), strides=(4, 8, 16, 32)),
}
"""Backbones to build heads for: a pyramid, one level of a patch-14 transformer, odd channels."""

LABELS = LabelSchema(
    names=("background", "left_hand", "right_hand", "head", "chair"),
    swap_pairs=((1, 2),),
)
"""Classes for tasks that take theirs from the data."""


def fake_features(info: FeatureInfo, size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    """Levels as computed of images of (H, W); the same every time."""
    generator = torch.Generator().manual_seed(sum(info.channels))
    return [torch.randn(batch, *shape, generator=generator) for shape in info.shapes(size)]


def fake_image(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """`(H, W, 3) uint8`: smooth colours with a bright box, different for every seed."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / max(*size, 1)
    phase = np.random.RandomState(seed).uniform(0, 6, 6)
    waves = [np.sin(5 * (i + 1) * x + phase[i]) + np.cos(4 * y + phase[i + 3]) for i in range(3)]
    image = np.stack(waves, axis=-1) * 55 + 128
    image[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] += 40
    return np.clip(image, 0, 255).astype(np.uint8)


def fake_sample(
    spec: TaskSpec, labels: LabelSchema | None, size: tuple[int, int], seed: int = 0
) -> Sample:
    """An image and a target as the spec describes it, its upper left corner invalid if it can be.

    Args:
        spec: of the task.
        labels: its classes.
        size: (H, W) of the image.
        seed: another one gives another sample.
    """
    image = fake_image(size, seed)
    name = f"fake-{seed}"
    if spec.target.source == "image":
        return Sample(name, image)
    return Sample(name, image, {spec.target_name: fake_target(spec, labels, size, seed)})


def fake_target(
    spec: TaskSpec, labels: LabelSchema | None, size: tuple[int, int], seed: int = 0
) -> np.ndarray:
    """The target of `fake_sample`, in the layout of `spec.target`."""
    dense = spec.output.kind == "dense"
    shape = (*(size if dense else ()), *(() if spec.target.channels is None else (-1,)))
    channels = spec.target.channels or 1
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / max(*size, 1)
    if not dense:
        x, y = np.asarray((0.37 * seed + 0.1) % 1), np.asarray((0.61 * seed + 0.3) % 1)
    waves = [
        0.5 + 0.25 * (np.sin(3 * x + seed + c) + np.cos(2 * y + 2 * c)) for c in range(channels)
    ]
    unit = np.stack(waves, axis=-1)  # in [0, 1]
    if labels is not None:
        target = np.minimum((unit * len(labels.names)).astype(np.int64), len(labels.names) - 1)
        invalid: float | None = labels.ignore_index
    elif spec.target.dtype == "int64":
        target, invalid = (unit > 0.5).astype(np.int64), spec.target.invalid
    else:
        target, invalid = _floats(spec, unit), spec.target.invalid
    target = target.reshape(shape) if spec.target.channels else target[..., 0]
    if dense and invalid is not None:
        target[: size[0] // 6, : size[1] // 6] = invalid
    return target


def _floats(spec: TaskSpec, unit: np.ndarray) -> np.ndarray:
    """Numbers of [0, 1] as values the task may predict: unit vectors, or within its range."""
    if spec.output.activation == "normalise":
        vectors = unit * 2 - 0.7
        return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    low, high = spec.output.range
    low = low if low is not None else (high - 4.0 if high is not None else -1.0)
    high = high if high is not None else low + 4.0
    return (low + (high - low) * (0.1 + 0.8 * unit)).astype(np.float32)


class FakeDataset:
    """Samples of `fake_sample`, for one task; see `medusa_core.api.Dataset`."""

    def __init__(
        self,
        spec: TaskSpec,
        labels: LabelSchema | None = None,
        sizes: Sequence[tuple[int, int]] = ((48, 64),) * 4,
        split: str = "train",
    ) -> None:
        self.spec, self.labels, self.sizes = spec, labels, tuple(sizes)
        self.name, self.split = "fake", split
        self.ids = tuple(f"fake-{index}" for index in range(len(self.sizes)))
        self.targets: Mapping[str, TargetInfo] = {}
        if spec.target.source == "data":
            self.targets = {spec.target_name: TargetInfo(labels=labels, unit=spec.target.unit)}
        self.digest = f"fake-{spec.name}-{split}-{hash(self.sizes) & 0xFFFF:x}"

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return self.sizes[index]

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """One sample, with its target if that is asked for."""
        sample = fake_sample(self.spec, self.labels, self.sizes[index], index)
        wanted = sample.targets if targets is None else set(targets) & set(sample.targets)
        return Sample(sample.id, sample.image, {name: sample.targets[name] for name in wanted})
