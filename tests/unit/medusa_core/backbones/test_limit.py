"""A file that names a far larger backbone than it has weights for is refused while it is built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from medusa_core.backbones.limit import CLASSIFIER, SLACK, not_larger
from medusa_core.errors import WeightsError
from medusa_core.model import open_model


def test_a_model_that_names_a_huge_backbone_is_refused(make_model, monkeypatch) -> None:
    path: Path = make_model("depth")
    filled: list[int] = []
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: filled.append(self.numel()))
    document = json.loads((path / "model.json").read_text())
    document["backbone"]["name"] = "vit_giant_patch14_224"
    (path / "model.json").write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="has over"):
        open_model(path)
    assert sum(filled) < 2 * CLASSIFIER


def test_what_fits_is_built_and_nothing_is_counted_afterwards() -> None:
    values = 10
    most = SLACK * values + CLASSIFIER
    with torch.device("meta"):
        with not_larger("it", values):
            nn.Linear(most, 1, bias=False)
        with pytest.raises(WeightsError), not_larger("it", values):
            nn.Linear(most, 1, bias=True)
        with not_larger("it", None):
            nn.Linear(most, 2)
        nn.Linear(most, 2)
