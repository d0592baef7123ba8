"""The behaviour of a task: its loss, its metrics, what its raw predictions mean, how they look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from pydantic import BaseModel
    from torch import Tensor

    from medusa_core.api.metric import Metric
    from medusa_core.api.specs import LabelSchema, TaskSpec


class Task(ABC):
    """One task, bound to the classes of one head (`labels`, None for tasks without classes).

    Tasks hold settings only: every method is a pure function of its arguments.
    """

    def __init__(
        self, spec: TaskSpec, labels: LabelSchema | None = None, config: BaseModel | None = None
    ) -> None:
        self.spec = spec
        self.labels = labels
        self.config: Any = config

    @property
    def out_channels(self) -> int:
        """Channels of the raw prediction. ValueError where classes decide and there are none."""
        channels = self.spec.output.channels
        if isinstance(channels, int):
            return channels
        if self.labels is None:
            raise ValueError(f"task {self.spec.name!r} needs labels to know its channels")
        return len(self.labels.names)

    def encode_target(self, raw: np.ndarray | None, image: np.ndarray) -> np.ndarray:
        """The target to train on, from what the data set holds.

        Args:
            raw: the sample's target as loaded; None where `target.source` is "image".
            image: `(H, W, 3) uint8`.

        Returns:
            Array in the layout of `spec.target`.

        Raises:
            ValueError: there is nothing to compute the target by: the task does not override this.
        """
        if raw is None:
            raise ValueError(f"task {self.spec.name!r} computes no target from the image")
        return raw

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Named terms; their sum is minimised.

        Args:
            prediction: `(B, C, H, W) float32` raw (dense) or `(B, C)` (global).
            target: `(B, H, W)` or `(B, C, H, W)` (dense) or `(B, …)` (global), float32 or int64 as
                `spec.target` says.
            valid: `(B, H, W) bool` or `(B,) bool`. With `spec.loss_stride` n all three are every
                n-th pixel of every n-th row: neighbours lie n pixels apart.

        Returns:
            Scalars, finite (and zero, with a gradient path) even where nothing is valid.
        """

    @abstractmethod
    def new_metrics(self) -> list[Metric]:
        """Metrics that together report every `MetricRef` of the spec."""

    def decode(self, prediction: Tensor) -> Tensor:
        """Values from raw predictions, by `spec.output.activation`.

        Args:
            prediction: `(B, C, H, W) float32` at the size of the image, or `(B, C)`.

        Returns:
            "argmax": `(B, H, W) int64` classes; "normalise": `(B, C, H, W)` unit vectors; else
            `(B, C, H, W)`, the channel dropped where C = 1: `(B, H, W) float32`. The same without
            H and W for global tasks. "exp" of large predictions is infinite: clamp them first.
        """
        match self.spec.output.activation:
            case "argmax":
                return prediction.argmax(dim=1)
            case "normalise":
                return prediction / prediction.norm(dim=1, keepdim=True).clamp_min(1e-6)
            case "sigmoid":
                value = prediction.sigmoid()
            case "exp":
                value = prediction.exp()
            case _:
                value = prediction
        return value.squeeze(1) if value.shape[1] == 1 else value

    @abstractmethod
    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """A picture of a decoded value that people can read.

        Args:
            image: `(H, W, 3) uint8`, for overlays.
            value: one decoded image without the batch axis: `(H, W)` or `(C, H, W)` (dense), `()`
                or `(C,)` (global).

        Returns:
            `(H, W, 3) uint8`, of the size of `image`.
        """
