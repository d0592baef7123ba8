"""A `folder` data set of three images with a target in every encoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medusa_core.data.folder import FolderDataset

SIZE = (6, 8)
IDS = ("a", "sub/b", "ü c")
TARGETS = {
    "depth": {
        "encoding": "linear",
        "path": "depth/{id}.png",
        "scale": 0.5,
        "offset": 1.0,
        "unit": "m",
        "invalid": 0,
    },
    "semseg": {
        "encoding": "index",
        "path": "semseg/{id}.png",
        "labels": ["sky", "left", "right"],
        "palette": [[0, 0, 0], [9, 9, 9], [5, 5, 5]],
        "swap_pairs": [[1, 2]],
    },
    "edges": {"encoding": "binary", "path": "edges/{id}.png", "threshold": 100, "ignore": 77},
    "normals": {
        "encoding": "vector",
        "path": "normals/{id}.png",
        "scale": 2 / 255,
        "offset": -1.0,
        "invalid": [0, 0, 0],
    },
}


def write_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def describe(root: Path, **changes: Any) -> None:
    description = {
        "schema_version": 1,
        "name": "mine",
        "image": "image/{id}.png",
        "splits": {"train": "train.txt", "val": "val.txt"},
        "targets": TARGETS,
        **changes,
    }
    (root / "dataset.json").write_text(json.dumps(description))


@pytest.fixture
def raw() -> dict[str, dict[str, np.ndarray]]:
    """Target → id → stored pixels."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 255], np.uint8)
    return {
        "image": {i: rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for i in IDS},
        "depth": {i: rng.integers(0, 4, SIZE).astype(np.uint16) * 9000 for i in IDS},
        "semseg": {i: rng.choice(labels, SIZE) for i in IDS},
        "edges": {i: rng.choice(np.array([0, 77, 99, 100, 255], np.uint8), SIZE) for i in IDS},
        "normals": {i: rng.integers(0, 3, (*SIZE, 3), dtype=np.uint8) * 127 for i in IDS},
    }


@pytest.fixture
def root(tmp_path: Path, raw: dict[str, dict[str, np.ndarray]]) -> Path:
    root = tmp_path / "data"
    for kind, arrays in raw.items():
        for name, array in arrays.items():
            write_png(root / kind / f"{name}.png", array)
    describe(root)
    (root / "train.txt").write_text("\n".join(IDS) + "\n\n", encoding="utf-8")
    (root / "val.txt").write_text("a\n")
    return root


def load_target(root: Path, target: str) -> np.ndarray:
    return FolderDataset(str(root), "val").load(0, [target]).targets[target]
