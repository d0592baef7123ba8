"""The contract is not about maps: values and classes of whole images pass the same suite."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from medusa_core.api import HeadRef, OutputSpec, TargetSpec
from medusa_core.losses import direction_l1, masked_cross_entropy, masked_l1
from medusa_core.metrics import AngularErrors
from medusa_core.testing import check_task
from medusa_core.viz import draw_swatches


@pytest.mark.parametrize("kind", ["number", "direction", "class"])
def test_a_value_an_image(kind: str, variant: Any, good: Any) -> None:
    class Error(good[2].MeanError):
        def statistics(self, decoded, target, valid):
            error = (
                (decoded.double() - target.double()).abs()
                if kind == "number"
                else ((decoded != target).double())
            )
            return torch.stack([error * valid, valid.double()], dim=1)

    class Angle(AngularErrors):
        def compute(self, total):
            return {"mae": super().compute(total)["mean_angle"]}

    class Broad(good[2].Level):
        def loss(self, prediction, target, valid):
            if kind == "number":
                return {"l1": masked_l1(prediction.squeeze(1), target, valid)}
            if kind == "class":
                return {"entropy": masked_cross_entropy(prediction, target, valid)}
            return {"direction": direction_l1(prediction, target, valid)}

        def new_metrics(self):
            return [Angle() if kind == "direction" else Error()]

        def render(self, image, value):
            return draw_swatches(image, [(f"{x:.1f}", (255, 0, 0)) for x in np.ravel(value)])

    output, target = {
        "number": (
            OutputSpec(kind="global", channels=1),
            TargetSpec(invalid=math.nan, flip="negate_x"),
        ),
        "direction": (
            OutputSpec(kind="global", channels=3, activation="normalise"),
            TargetSpec(channels=3, invalid=0.0, flip="negate_x", zoom="invalid"),
        ),
        "class": (
            OutputSpec(kind="global", channels="labels", activation="argmax"),
            TargetSpec(dtype="int64"),
        ),
    }[kind]
    check_task(
        variant(Broad, output=output, target=target, default_head=HeadRef(name="hypercolumn"))
    )
