"""NYUD-v2: every copy gives what was written into it, and what is wrong with a file is said."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from medusa_core.data import images
from medusa_core.errors import DataError, UnknownNameError, UsageError
from medusa_tasks.datasets.nyud.dataset import open_nyud
from medusa_tasks.datasets.nyud.labels import CLASSES_13, CLASSES_40
from medusa_tasks.datasets.tree import Tree

COPIES = {
    "NYUD_MT": ("nyud (NYUD_MT)", 0),
    "PICTURES": ("nyud (NYUD_MT)", 0.012),
    "ASTMT": ("nyud (ASTMT)", 0.05),
}
"""How a copy is written → what it is recognised as, how far off its stored normals may be."""


def expected_classes(stored: np.ndarray) -> np.ndarray:
    return np.where(stored < 0, 255, stored)


@pytest.mark.parametrize("copy", COPIES)
def test_what_was_written_is_what_is_loaded(
    trees: Any, tmp_path: Path, content: Any, copy: str
) -> None:
    root = trees.write_nyud(tmp_path / "data", content, getattr(trees, copy))
    data = open_nyud(str(root), "train")
    name, tolerance = COPIES[copy]
    assert (data.name, data.split, len(data)) == (name, "train", 4)
    assert data.ids == tuple(content.image)
    assert set(data.targets) == {"semseg", "depth", "normals", "edges"}
    assert data.targets["semseg"].labels == CLASSES_40
    assert data.targets["depth"].unit == "m"
    for index, name in enumerate(data.ids):
        sample = data.load(index)
        assert sample.id == name
        assert data.size(index) == trees.SIZE == sample.image.shape[:2]
        assert np.abs(sample.image.astype(int) - content.image[name]).max() <= 4
        targets = sample.targets
        assert {key: (value.dtype.name, value.shape) for key, value in targets.items()} == {
            "semseg": ("int64", trees.SIZE),
            "depth": ("float32", trees.SIZE),
            "normals": ("float32", (*trees.SIZE, 3)),
            "edges": ("int64", trees.SIZE),
        }
        np.testing.assert_array_equal(targets["semseg"], expected_classes(content.semseg[name]))
        np.testing.assert_array_equal(targets["depth"], content.depth[name])
        np.testing.assert_array_equal(targets["edges"], content.edges[name])
        np.testing.assert_allclose(targets["normals"], content.normals[name], atol=1e-6 + tolerance)
        known = content.normals[name].any(axis=2)
        np.testing.assert_array_equal(targets["normals"].any(axis=2), known)
        length = np.linalg.norm(targets["normals"], axis=2)
        np.testing.assert_allclose(length[known], 1, atol=1e-5)


@pytest.mark.parametrize("channels_first", [False, True])
def test_the_copy_of_mtan(trees: Any, tmp_path: Path, channels_first: bool) -> None:
    content = trees.make_content([str(i) for i in range(11)], classes=13)
    root = trees.write_mtan(tmp_path / "nyuv2", content, channels_first)
    data = open_nyud(str(root), "val")
    assert data.name == "nyud (MTAN, 13 classes)"
    assert data.ids == tuple(str(i) for i in range(11))
    assert set(data.targets) == {"semseg", "depth", "normals"}
    assert data.targets["semseg"].labels == CLASSES_13
    for index, name in enumerate(data.ids):
        sample = data.load(index)
        assert data.size(index) == trees.SIZE
        np.testing.assert_array_equal(sample.image, content.image[name])
        np.testing.assert_array_equal(
            sample.targets["semseg"], expected_classes(content.semseg[name])
        )
        np.testing.assert_array_equal(sample.targets["depth"], content.depth[name])
        np.testing.assert_allclose(sample.targets["normals"], content.normals[name], atol=1e-6)


def test_files_that_tell_the_axes_are_part_of_the_digest(
    trees: Any, tmp_path: Path, content: Any
) -> None:
    """Those of another split, too: with them, what is cached could be turned the other way."""
    root = trees.write_nyud(tmp_path / "data", content, trees.NYUD_MT)
    before = open_nyud(str(root), "train").digest
    assert open_nyud(str(root), "train").digest == before
    normals = root / "normals"
    shutil.copy(next(normals.iterdir()), normals / "another.npy")
    assert open_nyud(str(root), "train").digest != before


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
@pytest.mark.parametrize("copy", ["NYUD_MT", "PICTURES"])
def test_axes_of_the_normals_are_brought_to_those_of_the_task(
    trees: Any, tmp_path: Path, content: Any, signs: tuple[int, ...], copy: str
) -> None:
    root = trees.write_nyud(tmp_path / "data", content, getattr(trees, copy), signs)
    for split in ("train", "val"):
        data = open_nyud(str(root), split)
        for index, name in enumerate(data.ids):
            found = data.load(index, ["normals"]).targets["normals"]
            np.testing.assert_allclose(found, content.normals[name], atol=0.013)


def test_only_the_asked_targets_are_read(nyud: Path) -> None:
    for path in (nyud / "segmentation", nyud / "normals", nyud / "edge"):
        for file in path.iterdir():
            file.write_bytes(b"damaged")
    data = open_nyud(str(nyud), "train")
    assert set(data.load(0, ["depth", "saliency"]).targets) == {"depth"}
    assert data.load(0, []).targets == {}
    for target in ("semseg", "normals", "edges"):
        with pytest.raises(DataError):
            data.load(0, [target])


def test_a_folder_that_is_not_there_is_a_target_that_is_not_there(nyud: Path) -> None:
    shutil.rmtree(nyud / "edge")
    for file in (nyud / "normals").iterdir():
        file.unlink()
    data = open_nyud(str(nyud), "train")
    assert set(data.targets) == {"semseg", "depth"}
    assert set(data.load(0).targets) == {"semseg", "depth"}


def test_a_sample_may_lack_a_target(nyud: Path) -> None:
    data = open_nyud(str(nyud), "train")
    (nyud / "depth" / f"{data.ids[1]}.npy").unlink()
    assert "depth" in data.load(0).targets
    assert "depth" not in data.load(1).targets
    assert "depth" in open_nyud(str(nyud), "train").targets


def test_the_digest_follows_files_ids_and_split(nyud: Path) -> None:
    def digest(split: str = "train") -> str:
        return open_nyud(str(nyud), split).digest

    seen = {digest(), digest("val")}
    assert digest() in seen
    for folder in ("images", "segmentation", "depth", "normals", "edge"):
        file = sorted((nyud / folder).iterdir())[0]
        os.utime(file, (1, 1))
        seen.add(digest())
    lists = nyud / "gt_sets" / "train.txt"
    lists.write_text("\n".join(reversed(lists.read_text().split())))
    seen.add(digest())
    assert len(seen) == 8


ID = "0003"
Change = Callable[[Path], Any]


def npy(name: str, array: np.ndarray) -> Change:
    return lambda root: np.save(root / name, array)


def png(name: str, array: np.ndarray) -> Change:
    return lambda root: Image.fromarray(array).save(root / name)


def text(name: str, content: str) -> Change:
    return lambda root: (root / name).write_text(content)


def cut(name: str) -> Change:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-40])


def pickled(root: Path) -> None:
    np.save(root / "depth" / f"{ID}.npy", np.array([{}], object), allow_pickle=True)


SEMSEG, DEPTH = f"segmentation/{ID}.png", f"depth/{ID}.npy"
NORMAL, EDGE = f"normals/{ID}.npy", f"edge/{ID}.npy"
LARGE = (32, 40)

MALFORMED: dict[str, tuple[Change, str, str]] = {
    "class 41": (png(SEMSEG, np.full(LARGE, 41, np.uint8)), SEMSEG, "holds 41, expected 1…40"),
    "class 200": (png(SEMSEG, np.full(LARGE, 200, np.uint8)), SEMSEG, "holds 200"),
    "colour for classes": (png(SEMSEG, np.zeros((*LARGE, 3), np.uint8)), SEMSEG, "expected (H, W)"),
    "classes of another size": (
        png(SEMSEG, np.ones((16, 40), np.uint8)),
        SEMSEG,
        "40×16, but its image is 40×32",
    ),
    "cut short": (cut(SEMSEG), SEMSEG, "truncated"),
    "not a picture": (text(SEMSEG, "classes"), SEMSEG, "not an image"),
    "not an array": (text(DEPTH, "metres"), DEPTH, "not a .npy file"),
    "array cut short": (cut(DEPTH), DEPTH, "not a .npy file"),
    "pickled": (pickled, DEPTH, "not a .npy file"),
    "one axis": (npy(DEPTH, np.ones(8)), DEPTH, "is not a map of numbers"),
    "no pixels": (npy(DEPTH, np.ones((0, 4))), DEPTH, "is not a map of numbers"),
    "complex": (npy(DEPTH, np.ones(LARGE, complex)), DEPTH, "is not a map of numbers"),
    "millimetres": (npy(DEPTH, np.full(LARGE, 2500, np.uint16)), DEPTH, "uint16, expected metres"),
    "far too deep": (npy(DEPTH, np.full(LARGE, 2500.0)), DEPTH, "expected metres"),
    "negative depth": (npy(DEPTH, np.full(LARGE, -1.0)), DEPTH, "expected metres"),
    "depth not a number": (npy(DEPTH, np.full(LARGE, np.nan)), DEPTH, "1280 values are NaN"),
    "depth of two channels": (npy(DEPTH, np.ones((*LARGE, 2))), DEPTH, "expected (H, W)"),
    "depth of another size": (npy(DEPTH, np.ones((32, 41))), DEPTH, "41×32, but its image"),
    "vectors of length 2": (npy(NORMAL, np.ones((*LARGE, 2))), NORMAL, "expected (H, W, 3)"),
    "vectors of length 4": (npy(NORMAL, np.ones((*LARGE, 4))), NORMAL, "expected (H, W, 3)"),
    "vectors too long": (npy(NORMAL, np.full((*LARGE, 3), 127.0)), NORMAL, "expected unit vectors"),
    "vectors from 0 to 1": (
        npy(NORMAL, np.full((*LARGE, 3), (0.5, 1.0, 0.5))),
        NORMAL,
        "not 0 to 1",
    ),
    "vectors as bytes": (npy(NORMAL, np.zeros((*LARGE, 3), np.uint8)), NORMAL, "uint8, expected"),
    "vectors not numbers": (npy(NORMAL, np.full((*LARGE, 3), np.inf)), NORMAL, "NaN or infinite"),
    "grey edges": (npy(EDGE, np.full(LARGE, 0.5)), EDGE, "other than 0 and 1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_target_is_named(nyud: Path, case: str) -> None:
    change, file, says = MALFORMED[case]
    change(nyud)
    with pytest.raises(DataError) as caught:
        open_nyud(str(nyud), "train").load(0)
    assert str(nyud / file) in caught.value.message
    assert says in caught.value.message


PICTURE_CASES: dict[str, tuple[Change, str, str]] = {
    "edges of 0 and 1": (
        png(f"edge/{ID}.png", np.ones(LARGE, np.uint8)),
        f"edge/{ID}.png",
        "its largest value is 1, expected 0 to 255",
    ),
    "edges of 16 bits": (
        png(f"edge/{ID}.png", np.ones(LARGE, np.uint16)),
        f"edge/{ID}.png",
        "expected an 8-bit picture",
    ),
    "grey normals": (
        png(f"normals/{ID}.png", np.ones(LARGE, np.uint8)),
        f"normals/{ID}.png",
        "expected 8-bit RGB",
    ),
}


@pytest.mark.parametrize("case", PICTURE_CASES)
def test_a_malformed_picture_is_named(trees: Any, tmp_path: Path, content: Any, case: str) -> None:
    root = trees.write_nyud(tmp_path / "data", content, trees.PICTURES)
    change, file, says = PICTURE_CASES[case]
    change(root)
    with pytest.raises(DataError) as caught:
        open_nyud(str(root), "train").load(0)
    assert str(root / file) in caught.value.message
    assert says in caught.value.message


MATLAB_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "class 41": ({"segmentation": np.full(LARGE, 41.0)}, "holds 41, expected 1…40"),
    "half a class": ({"segmentation": np.full(LARGE, 1.5)}, "not whole numbers"),
    "another variable": ({"labels": np.ones(LARGE)}, "no variable 'segmentation'"),
    "a struct": ({"segmentation": {"a": 1}}, "structs with the fields a, expected a map"),
    "text": ({"segmentation": "wall"}, "the text 'wall', expected a map"),
    "three axes": ({"segmentation": np.ones((*LARGE, 3))}, "32×40×3 numbers, expected a map"),
    "another size": ({"segmentation": np.ones((40, 32))}, "32×40, but its image is 40×32"),
}


@pytest.mark.parametrize("case", MATLAB_CASES)
def test_a_malformed_matlab_file_is_named(
    trees: Any, tmp_path: Path, content: Any, case: str
) -> None:
    root = trees.write_nyud(tmp_path / "data", content, trees.ASTMT)
    variables, says = MATLAB_CASES[case]
    savemat(root / "segmentation" / f"{ID}.mat", variables)
    with pytest.raises(DataError) as caught:
        open_nyud(str(root), "train").load(0)
    assert str(root / "segmentation" / f"{ID}.mat") in caught.value.message
    assert says in caught.value.message


HOSTILE = ["../../etc/passwd", "a/b", "a\\b", "..", "a..b", ".hidden", "a b", "a\x00b", "-x"]


@pytest.mark.parametrize("name", HOSTILE)
def test_ids_are_plain_names(nyud: Path, name: str) -> None:
    (nyud / "gt_sets" / "train.txt").write_text(f"{ID}\n{name}\n")
    with pytest.raises(DataError, match="is not an id") as caught:
        open_nyud(str(nyud), "train")
    assert "train.txt: line 2" in caught.value.message


def remove(name: str) -> Change:
    return lambda root: (
        shutil.rmtree(root / name) if (root / name).is_dir() else os.remove(root / name)
    )


def other_suffix(root: Path) -> None:
    for file in (root / "depth").iterdir():
        file.rename(file.with_suffix(".tif"))


def folder_for_a_list(root: Path) -> None:
    (root / "gt_sets/train.txt").unlink()
    (root / "gt_sets/train.txt").mkdir()


TREES: dict[str, tuple[Change, str]] = {
    "no list": (remove("gt_sets/train.txt"), "gt_sets/train.txt: no such file"),
    "no lists": (remove("gt_sets"), "gt_sets/train.txt: no such file"),
    "empty list": (text("gt_sets/train.txt", "\n \n"), "train.txt: lists no images"),
    "twice": (text("gt_sets/train.txt", f"{ID}\n{ID}"), f"the id '{ID}' is listed twice"),
    "not text": (
        lambda root: (root / "gt_sets/train.txt").write_bytes(b"\xff\xfe\xff"),
        "train.txt: the ids cannot be read",
    ),
    "a folder": (folder_for_a_list, "train.txt: not a plain file"),
    "endless list": (text("gt_sets/train.txt", "1" * 4_000_001), "larger than 4 MB"),
    "no images": (remove("images"), "images: no images"),
    "other files": (other_suffix, "depth: holds no .mat or .npy files"),
    "two kinds": (png(f"normals/{ID}.png", np.zeros((1, 1), np.uint8)), "holds .npy and .png"),
}


@pytest.mark.parametrize("case", TREES)
def test_what_is_wrong_with_a_tree_is_said(nyud: Path, case: str) -> None:
    change, says = TREES[case]
    change(nyud)
    with pytest.raises(DataError) as caught:
        open_nyud(str(nyud), "train")
    assert says in caught.value.message
    assert str(nyud) in caught.value.message


def test_a_missing_image_is_named(nyud: Path) -> None:
    (nyud / "images" / f"{ID}.jpg").unlink()
    data = open_nyud(str(nyud), "train")
    for action in (lambda: data.load(0), lambda: data.size(0)):
        with pytest.raises(DataError, match=rf"images/{ID}\.jpg: no such file"):
            action()


def test_a_place_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a path"):
        open_nyud(None, "train")
    with pytest.raises(DataError, match="no such folder") as missing:
        open_nyud(str(tmp_path / "none"), "train")
    with pytest.raises(DataError, match="none of the copies") as empty:
        open_nyud(str(tmp_path), "train")
    for caught in (missing, empty):
        assert "NYUD_MT" in (caught.value.hint or "")
        assert "gt_sets" in (caught.value.hint or "")
    with pytest.raises(DataError, match="no such folder"):
        open_nyud("a\x00b", "train")


def test_an_unknown_split(trees: Any, nyud: Path, tmp_path: Path) -> None:
    for split in ("trian", "../train", ""):
        with pytest.raises(UnknownNameError, match="Known: train, val"):
            open_nyud(str(nyud), split)
    mtan = trees.write_mtan(tmp_path / "mtan", trees.make_content(["0"], 13))
    with pytest.raises(UnknownNameError, match="Known: train, val"):
        open_nyud(str(mtan), "test")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(nyud: Path) -> None:
    for name in ("gt_sets/train.txt", "gt_sets", "depth"):
        (nyud / name).chmod(0)
        with pytest.raises(DataError, match=f"{name}.*cannot be"):
            open_nyud(str(nyud), "train")
        (nyud / name).chmod(0o755)


def test_a_folder_that_may_not_be_listed_is_named(
    nyud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="cannot be listed: Permission denied"):
        open_nyud(str(nyud), "train")


def mtan_case(trees: Any, tmp_path: Path) -> tuple[Path, Tree]:
    root = trees.write_mtan(tmp_path / "mtan", trees.make_content(["0", "1"], 13))
    return root, open_nyud(str(root), "train")


MTAN_CASES: dict[str, tuple[Change, str, str]] = {
    "class 13": (npy("train/label/0.npy", np.full(LARGE, 13.0)), "label/0.npy", "expected 0…12"),
    "class -2": (npy("train/label/0.npy", np.full(LARGE, -2)), "label/0.npy", "holds -2"),
    "image of bytes": (
        npy("train/image/0.npy", np.ones((*LARGE, 3), np.uint8)),
        "image/0.npy",
        "uint8, expected a picture of numbers from 0 to 1",
    ),
    "too bright": (npy("train/image/0.npy", np.full((*LARGE, 3), 2.0)), "image/0.npy", "0 to 1"),
    "no number": (npy("train/image/0.npy", np.full((*LARGE, 3), np.nan)), "image/0.npy", "0 to 1"),
    "grey": (npy("train/image/0.npy", np.ones(LARGE)), "image/0.npy", "expected (H, W, 3)"),
}


@pytest.mark.parametrize("case", MTAN_CASES)
def test_a_malformed_file_of_mtan_is_named(trees: Any, tmp_path: Path, case: str) -> None:
    root, data = mtan_case(trees, tmp_path)
    change, file, says = MTAN_CASES[case]
    change(root)
    with pytest.raises(DataError) as caught:
        data.load(0)
    assert file in caught.value.message
    assert says in caught.value.message


def test_files_of_mtan_are_numbered(trees: Any, tmp_path: Path) -> None:
    root, _ = mtan_case(trees, tmp_path)
    shutil.copy(root / "train/image/0.npy", root / "train/image/copy.npy")
    with pytest.raises(DataError, match=r"image/copy\.npy: files are named by numbers"):
        open_nyud(str(root), "train")


def test_arrays_beyond_the_limit_are_refused(nyud: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 300)
    with pytest.raises(DataError, match=r"0003\.npy: more than"):
        images.read_npy(nyud / "depth" / "0003.npy")
    with pytest.raises(DataError, match=r"0003\.jpg: 40×32 is more than"):
        open_nyud(str(nyud), "train").load(0, [])
