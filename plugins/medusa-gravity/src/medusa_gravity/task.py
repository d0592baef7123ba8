"""The behaviour of the tasks. Imported when a head is trained, evaluated or run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from medusa_core.api import Metric, Task
from medusa_core.losses import cosine_distance
from medusa_core.metrics import angle_between
from medusa_core.viz import draw_swatches, outline
from medusa_gravity.up import pitch_and_roll, up_direction

if TYPE_CHECKING:
    from torch import Tensor

LEVEL = (0.0, 1.0, 0.0)
HORIZON = (255, 196, 0)
FOCAL = 0.9
"""Focal length in heights of the picture, assumed where the horizon is drawn (58° of view)."""


class Gravity(Task):
    """One unit vector an image; raw predictions are what is added to a level camera's.

    Starting from level matters: with one value an image a step has little to learn from, and from
    nowhere a linear head took longer to find the sky than to learn the rest.
    """

    def encode_target(self, raw: np.ndarray | None, image: np.ndarray) -> np.ndarray:
        """`(3,) float32`: of `(H, W, 3)` normals what they agree on, of `(3,)` the direction."""
        if raw is None:
            raise ValueError("gravity needs normals or a measured direction")
        if raw.ndim == 3:
            return up_direction(raw)
        length = float(np.linalg.norm(raw))
        return (raw / length if length > 1e-6 else np.zeros_like(raw)).astype(np.float32)

    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """1 - cos of the angle between `(B, 3)` directions."""
        return {"cosine": cosine_distance(_direction(prediction), target, valid)}

    def new_metrics(self) -> list[Metric]:
        """Angles between prediction and target."""
        return [TiltErrors()]

    def decode(self, prediction: Tensor) -> Tensor:
        """`(B, 3)` unit vectors."""
        return super().decode(_direction(prediction))

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The horizon, an arrow that points up, and pitch and roll in degrees."""
        height, width = image.shape[:2]
        y, x = np.mgrid[height / 2 : -height / 2 : height * 1j, -width / 2 : width / 2 : width * 1j]
        above = x * value[0] + y * value[1] - FOCAL * height * value[2] > 0
        picture = outline(image, above.astype(np.int64), HORIZON, alpha=1.0)
        canvas = Image.fromarray(picture)
        middle, reach = (width / 2, height / 2), 0.35 * min(height, width)
        tip = (middle[0] + reach * float(value[0]), middle[1] - reach * float(value[1]))
        thick = max(1, min(height, width) // 100)
        draw = ImageDraw.Draw(canvas)
        draw.line([middle, tip], fill=HORIZON, width=thick)
        draw.ellipse([tip[0] - thick, tip[1] - thick, tip[0] + thick, tip[1] + thick], fill=HORIZON)
        pitch, roll = pitch_and_roll(value)
        text = f"pitch {pitch:+.1f}°, roll {roll:+.1f}°" if value.any() else "unknown"
        return draw_swatches(np.array(canvas), [(text, HORIZON)])


def _direction(prediction: Tensor) -> Tensor:
    """`(B, 3)` vectors of any length: a raw prediction of 0 means that the camera is level."""
    return prediction + prediction.new_tensor(LEVEL)


class TiltErrors(Metric):
    """Figures `mean_angle`, `pitch_error`, `roll_error` (degrees) and `within_5` (%).

    Statistics: sums of the three errors, images within 5 degrees, images (`K = 5`).
    """

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Of `(B, 3) float32` vectors; see `Metric.statistics`."""
        angle = angle_between(decoded, target)
        errors = (_tilt(decoded) - _tilt(target) + 180) % 360 - 180
        columns = [angle, *errors.abs().unbind(1), (angle < 5).double(), torch.ones_like(angle)]
        return torch.where(valid[:, None], torch.stack(columns, dim=1), 0.0)

    def compute(self, total: Tensor) -> dict[str, float]:
        """Means over images; see `Metric.compute`."""
        angle, pitch, roll, near, images = total.tolist()
        names = ("mean_angle", "pitch_error", "roll_error", "within_5")
        if not images:
            return dict.fromkeys(names, math.nan)
        values = (angle, pitch, roll, 100 * near)
        return {name: value / images for name, value in zip(names, values, strict=True)}


def _tilt(up: Tensor) -> Tensor:
    """`(B, 2) float64` pitch and roll in degrees of `(B, 3)` vectors."""
    x, y, z = up.double().unbind(1)
    return torch.rad2deg(torch.stack([torch.atan2(-z, torch.hypot(x, y)), torch.atan2(-x, y)], 1))
