"""A `folder` data set with every kind of target."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images: values a pixel, and values and classes a picture."""
    root, noise = tmp_path / "own", np.random.RandomState(0)
    names = [f"im{i}" for i in range(5)]
    for part in ("image", "depth", "semseg"):
        (root / part).mkdir(parents=True)
    for name in names:
        pixels = noise.randint(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "image" / f"{name}.png")
        np.save(root / "depth" / f"{name}.npy", noise.uniform(1, 5, (48, 64)).astype(np.float32))
        Image.fromarray(pixels[..., 0] % 2).save(root / "semseg" / f"{name}.png")
    (root / "known.csv").write_text(
        "id,tilt,turn,place\n" + "".join(f"{name},0.{i},-1,hall\n" for i, name in enumerate(names))
    )
    targets = {
        "depth": {"encoding": "linear", "path": "depth/{id}.npy", "unit": "m", "invalid": 0},
        "semseg": {"encoding": "index", "path": "semseg/{id}.png", "labels": ["sky", "road"]},
        "pose": {"encoding": "numbers", "table": "known.csv", "columns": ["tilt", "turn"]},
        "place": {
            "encoding": "class",
            "table": "known.csv",
            "column": "place",
            "labels": ["hall", "yard"],
        },
    }
    description = {
        "schema_version": 1,
        "name": "own",
        "image": "image/{id}.png",
        "splits": {"train": "train.txt", "val": "val.txt"},
        "targets": targets,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    (root / "train.txt").write_text("\n".join(names[:3]))
    (root / "val.txt").write_text("\n".join(names[3:]))
    return root
