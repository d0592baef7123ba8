"""Architectures that would fail only after their training are refused before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medusa_core.api import FeatureInfo, HeadRef
from medusa_core.errors import PluginError
from medusa_core.heads.base import Head
from medusa_core.model import trial
from medusa_core.plugin_host import default_host
from medusa_core.plugin_host.report import Provider

INFO = FeatureInfo(channels=(6, 8), strides=(4, 8))
REF = HeadRef(name="medusa")


class Sound(Head):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.predict = nn.Conv2d(6, 2, 1)
        self.provider, self.wanted_channels = Provider("theirs", "theirs", "1.0"), 2

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.predict(self.norm(features[0]))


class Listed(Sound):
    """Half of it is in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [nn.Conv2d(6, 2, 1)]

    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward(features) + self.parts[0].to(features[0].device)(features[0])


class AllListed(Listed):
    def __init__(self) -> None:
        super().__init__()
        del self.norm, self.predict

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.parts[0].to(features[0].device)(features[0])


class Chance(Sound):
    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward(features) * torch.rand_like(features[0][:, :1])


class Detached(Sound):
    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward(features).detach()


class Elsewhere(Sound):
    """Works on one device alone."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward(features) + torch.ones(1)


def run(monkeypatch: pytest.MonkeyPatch, build: Callable[[], Head]) -> None:
    monkeypatch.setattr(trial, "make_head", lambda *_: build())
    trial.try_head(default_host(), REF, INFO, 2)


def test_a_sound_one_passes_and_leaves_chance_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    run(monkeypatch, Sound)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["medusa", "hypercolumn", "linear", "constant"])
def test_the_built_in_ones_pass(name: str) -> None:
    host = default_host()
    spec = host.heads.get(name)
    config = host.config_model(spec)().model_dump(mode="json")
    trial.try_head(host, HeadRef(name=name, config=config), INFO, 3)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Listed, "equal weights give other results"),
        (AllListed, "no parameters to train"),
        (Chance, "equal weights give other results"),
        (Detached, "its output has no gradient"),
        (Elsewhere, "meta"),
    ],
)
def test_what_would_be_lost_after_training_is_refused_before(
    monkeypatch: pytest.MonkeyPatch, build: Any, said: str
) -> None:
    with pytest.raises(PluginError, match=f"(?s)theirs.*forward of {build.__name__}.*{said}"):
        run(monkeypatch, build)
