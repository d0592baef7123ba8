"""The `folder` data set on the real data sets, where MEDUSA_REAL_DATA says they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medusa_core.data.folder import FolderDataset

REAL_DATA = os.environ.get("MEDUSA_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="MEDUSA_REAL_DATA is not set")


@needs_real_data
@pytest.mark.parametrize(
    ("name", "train", "val", "targets"),
    [
        ("nyuv2", 640, 155, {"depth", "semseg", "edges", "normals"}),
        ("camvid", 367, 101, {"semseg"}),
        ("bsds500", 100, 50, {"edges"}),
        ("people", 280, 70, {"human_parts", "saliency"}),
    ],
)
def test_real_data_sets(name: str, train: int, val: int, targets: set[str]) -> None:
    root = Path(str(REAL_DATA)) / name
    parts = {split: FolderDataset(str(root), split) for split in ("train", "val")}
    assert {split: len(part) for split, part in parts.items()} == {"train": train, "val": val}
    assert not set(parts["train"].ids) & set(parts["val"].ids)
    for part in parts.values():
        assert set(part.targets) == targets
        for index in (0, len(part) // 2, len(part) - 1):
            sample = part.load(index)
            assert sample.image.shape[:2] == part.size(index)
            assert sample.image.std() > 5
            assert set(sample.targets) == targets
            for target, value in sample.targets.items():
                _check_real_target(target, value, part)


def _check_real_target(name: str, value: np.ndarray, part: FolderDataset) -> None:
    labels = part.targets[name].labels
    match name:
        case "depth":
            measured = value[value > 0]
            assert measured.size > 0.5 * value.size
            assert 0.3 < measured.min() < measured.max() <= 10.01
        case "normals":
            length = np.linalg.norm(value, axis=2)
            valid = length > 0
            assert valid.mean() > 0.1
            np.testing.assert_allclose(length[valid], 1, atol=1e-5)
            assert (
                value[valid][:, 2] > 0
            ).mean() > 0.6  # z towards the camera; fitted to coarse depth
        case "edges" | "saliency":
            assert set(np.unique(value)) <= {0, 1, 255}
            assert 0 < (value == 1).mean() < 0.9
        case _:
            assert labels is not None
            known = value != labels.ignore_index
            assert known.mean() > 0.3
            assert value[known].max() < len(labels.names)
            assert len(np.unique(value[known])) > 1
