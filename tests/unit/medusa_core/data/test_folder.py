"""The `folder` data set: what it reads, and what its digest is of."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from medusa_core.data.folder import FolderDataset
from medusa_core.engine.datasets import check_target
from medusa_core.errors import DataError, MedusaWarning
from medusa_core.plugin_host import default_host

from .conftest import IDS, SIZE, TARGETS, describe, load_target


def test_the_contract(root: Path) -> None:
    data = FolderDataset(str(root), "train")
    assert (data.name, data.split, len(data)) == ("mine", "train", 3)
    assert data.ids == IDS
    assert [data.size(i) for i in range(3)] == [SIZE] * 3
    assert data.targets["depth"].unit == "m"
    labels = data.targets["semseg"].labels
    assert labels is not None
    assert labels.names == ("sky", "left", "right")
    assert (labels.ignore_index, labels.swap_pairs) == (255, ((1, 2),))
    assert labels.palette == ((0, 0, 0), (9, 9, 9), (5, 5, 5))


def test_directions_are_refused_where_lengths_count(root: Path) -> None:
    data, normals = FolderDataset(str(root), "train"), default_host().tasks.get("normals")
    assert check_target(data, normals) is None
    in_pixels = normals.target.model_copy(update={"unit": "px"})
    with pytest.raises(DataError, match="'normals' is in 'unit vectors', .* needs 'px'") as caught:
        check_target(data, normals.model_copy(update={"target": in_pixels}))
    assert "encoding" in caught.value.hint


def test_every_encoding_agrees_with_a_naive_decode(
    root: Path, raw: dict[str, dict[str, np.ndarray]]
) -> None:
    data = FolderDataset(str(root), "train")
    for index, name in enumerate(IDS):
        sample = data.load(index)
        assert sample.id == name
        np.testing.assert_array_equal(sample.image, raw["image"][name])
        assert {k: (v.dtype.name, v.shape) for k, v in sample.targets.items()} == {
            "depth": ("float32", SIZE),
            "semseg": ("int64", SIZE),
            "edges": ("int64", SIZE),
            "normals": ("float32", (*SIZE, 3)),
        }
        for y, x in np.ndindex(SIZE):
            pixel = {kind: arrays[name][y, x] for kind, arrays in raw.items()}
            stored = int(pixel["depth"])
            value = stored * 0.5 + 1 if stored else np.nan
            np.testing.assert_equal(sample.targets["depth"][y, x], np.float32(value))
            assert sample.targets["semseg"][y, x] == int(pixel["semseg"])
            edge = int(pixel["edges"])
            assert sample.targets["edges"][y, x] == (255 if edge == 77 else int(edge >= 100))
            vector = np.asarray(pixel["normals"], float) * 2 / 255 - 1
            expected = (
                vector / np.linalg.norm(vector) if pixel["normals"].any() else vector * np.nan
            )
            np.testing.assert_allclose(sample.targets["normals"][y, x], expected, atol=1e-6)


def test_only_the_asked_targets_are_read(root: Path) -> None:
    data = FolderDataset(str(root), "val")
    (root / "depth" / "a.png").write_text("damaged")
    assert set(data.load(0, ["semseg", "other"]).targets) == {"semseg"}
    assert data.load(0, []).targets == {}


def test_a_missing_target_file_is_a_missing_target(root: Path) -> None:
    (root / "depth" / "sub" / "b.png").unlink()
    data = FolderDataset(str(root), "train")
    assert "depth" in data.load(0).targets
    assert set(data.load(1).targets) == {"semseg", "edges", "normals"}


def test_a_target_without_any_file_is_warned_of_at_once(root: Path) -> None:
    describe(root, targets={**TARGETS, "depth": {**TARGETS["depth"], "path": "dpeth/{id}.png"}})
    with pytest.warns(MedusaWarning, match=r"none of the 3 files dpeth/\{id\}\.png of .*'train'"):
        data = FolderDataset(str(root), "train")
    assert "depth" not in data.load(0).targets


def test_ids_with_the_ending_of_the_images_are_told(root: Path) -> None:
    (root / "train.txt").write_text("a.png\n")
    with pytest.raises(DataError, match=r"image/a\.png\.png: no such file") as caught:
        FolderDataset(str(root), "train")
    assert "names without .png" in str(caught.value.hint)


def test_nothing_is_invalid_unless_declared(root: Path) -> None:
    changed = {**TARGETS["depth"]}
    del changed["invalid"]
    describe(root, targets={"depth": changed})
    assert load_target(root, "depth").min() == 1.0


# ---- digest ----------------------------------------------------------------------------------


def test_the_digest_is_of_the_content(root: Path) -> None:
    first = FolderDataset(str(root), "train").digest
    assert FolderDataset(str(root), "train").digest == first
    assert FolderDataset(str(root), "val").digest != first
    moved = root.rename(root.with_name("moved"))
    assert FolderDataset(str(moved), "train").digest == first


def test_images_are_told_apart_without_their_targets(root: Path) -> None:
    """Of this class alone: one that is derived from it may make other images of them."""

    class Derived(FolderDataset):
        pass

    first = FolderDataset(str(root), "train")
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**description, "name": "another"}))
    second = FolderDataset(str(root), "train")
    assert (second.image_digest, second.digest != first.digest) == (first.image_digest, True)
    image = root / description["image"].format(id=first.ids[0])
    image.write_bytes(image.read_bytes() + b" ")
    assert FolderDataset(str(root), "train").image_digest != first.image_digest
    assert FolderDataset(str(root), "val").image_digest != first.image_digest
    assert not hasattr(Derived(str(root), "train"), "image_digest")


def test_the_digest_changes_with_every_file(root: Path) -> None:
    seen = {FolderDataset(str(root), "train").digest}
    for path in sorted(root.rglob("*.png")):
        path.write_bytes(path.read_bytes() + b"\0")
        seen.add(FolderDataset(str(root), "train").digest)
    for path in sorted(root.rglob("*.png")):  # the same length, another content
        before = path.stat().st_mtime_ns
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
        os.utime(path, ns=(before, before + 1))
        seen.add(FolderDataset(str(root), "train").digest)
    (root / "depth" / "a.png").unlink()
    seen.add(FolderDataset(str(root), "train").digest)
    (root / "train.txt").write_text("a\nsub/b\n")
    seen.add(FolderDataset(str(root), "train").digest)
    describe(root, targets={**TARGETS, "edges": {**TARGETS["edges"], "threshold": 101}})
    seen.add(FolderDataset(str(root), "train").digest)
    assert len(seen) == 1 + 2 * 15 + 3
