"""A model with three heads, images for it, and ways to lose its plugins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medusa_core.errors import MedusaWarning
from medusa_core.model import MedusaModel, open_model
from medusa_core.plugin_host.host import Host, load_host
from medusa_core.plugin_host.settings import PluginSettings
from medusa_core.store.commit import NewHead

HEADS = ("depth", "normals", "semseg")

MakeModel = Callable[..., Path]
MakeHead = Callable[..., NewHead]


@pytest.fixture
def path(make_model: MakeModel) -> Path:
    return make_model(*HEADS)


@pytest.fixture
def model(path: Path) -> MedusaModel:
    return open_model(path)


def make_images(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def make_photo(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def without_tasks() -> Host:
    return load_host(settings=PluginSettings(disabled=frozenset({"medusa-tasks"})))


def orphaned(path: Path, **options: object) -> MedusaModel:
    with pytest.warns(MedusaWarning):
        return open_model(path, **options)  # type: ignore[arg-type]
