"""Images to be predicted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medusa_core.model import MedusaModel, open_model
from medusa_core.progress import SilentProgress

HEADS = ("depth", "semseg", "normals")


class Told(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for index in range(6):
        path = folder / ("deep" if index % 2 else ".") / f"p{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def spellings(photos: Path) -> list[Path]:
    """Paths of one image."""
    (photos / "link").symlink_to("deep")
    return [
        Path(os.path.relpath(photos / "deep" / "p1.jpg")),
        photos / "deep" / "p1.jpg",
        photos / "deep" / ".." / "deep" / "p1.jpg",
        photos / "link" / "p1.jpg",
    ]


@pytest.fixture
def model(make_model: Callable[..., Path]) -> MedusaModel:
    return open_model(make_model(*HEADS))
