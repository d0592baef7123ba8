"""What a data set is: an indexed collection of images, each with any subset of targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from medusa_core.api.specs import LabelSchema


@dataclass(frozen=True)
class Sample:
    """One image and the targets known for it.

    image: `(H, W, 3) uint8` RGB.
    targets: target name → `(H, W)` or `(H, W, C)` array (dense), `()` or `(C,)` array (global), in
        the dtype and unit of the task's `TargetSpec`, its invalid value (of float32 targets, NaN
        will do) where nothing was measured.
        A missing key means that this sample does not have the target.
    """

    id: str
    image: np.ndarray
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetInfo:
    """What a data set says about one of its targets; None: nothing, which is taken on trust."""

    labels: LabelSchema | None = None
    unit: str | None = None


class Dataset(Protocol):
    """One split of a data set; `DatasetSpec.implementation(location, split)` returns it.

    `digest` identifies the content (it keys the cache of targets): it must change when any image or
    target changes. One that has an `image_digest`, too, which changes when any image does, keeps
    cached features when only targets change. `ids` are unique and stable: the selection split is
    drawn by hashing them.
    """

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def split(self) -> str:
        """Which part of it this is."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Unique, stable names of the samples."""
        ...

    @property
    def targets(self) -> Mapping[str, TargetInfo]:
        """What is known of each target that samples may have."""
        ...

    @property
    def digest(self) -> str:
        """Identifies the content, short and fit for a file name."""
        ...

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image, in pixels, without decoding it where possible."""
        ...

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """Read one sample with the asked targets (None: all it has).

        Raises:
            DataError: the image or a target cannot be read, naming the file.
        """
        ...
