"""PASCAL-Context: targets agree with naive ones, and what is wrong with a file is said."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage
from scipy.io import savemat

from medusa_core.errors import DataError, UnknownNameError, UsageError
from medusa_core.metrics.thinning import thin
from medusa_tasks.datasets.pascal_context.dataset import open_pascal_context
from medusa_tasks.datasets.pascal_context.labels import OBJECTS, PART_NUMBERS, PARTS
from medusa_tasks.datasets.pascal_context.shared_classes import SHARED_WITH_NYUD
from medusa_tasks.datasets.pascal_context.targets import edges as edge_target
from medusa_tasks.datasets.pascal_context.targets import laplacian

IDS = ("2008_000002", "2008_000003", "2009_001234", "2010_000009", "2010_000010")
TARGETS = {"semseg", "human_parts", "edges", "normals", "saliency"}
WALL, GROUND = 440, 189


@dataclass
class Pascal:
    """A tree and what is in it: kind → id → array."""

    root: Path
    stored: dict[str, dict[str, np.ndarray]]

    def target(self, name: str, target: str) -> np.ndarray:
        data = open_pascal_context(str(self.root), "train")
        return data.load(data.ids.index(name), [target]).targets[target]


def mask(*box: slice) -> np.ndarray:
    made = np.zeros((32, 40), np.uint8)
    made[box] = 1
    return made


@pytest.fixture
def pascal(trees: Any, tmp_path: Path) -> Pascal:
    root, rng = tmp_path / "PASCAL_MT", np.random.default_rng(0)
    stored: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in ("image", *TARGETS, "labels")}
    for index, name in enumerate(IDS):
        image = trees.blocks(lambda s: rng.integers(0, 256, s, np.uint8), 3)
        semseg = rng.choice(np.array([*range(21), 255], np.uint8), trees.SIZE)
        labels = trees.blocks(lambda s: rng.choice([WALL, GROUND, 284], s))
        saliency = rng.integers(0, 256, trees.SIZE, np.uint8) >> index  # ever dimmer
        normals = trees.facing_the_camera(rng)
        # The first file decides for a sample that has both.
        semseg_folder = "VOC12" if index % 2 else "pascal-context"
        trees.save(root / "JPEGImages" / f"{name}.jpg", image)
        trees.save(root / "semseg" / semseg_folder / f"{name}.png", semseg)
        if index == 1:
            trees.save(root / "semseg/pascal-context" / f"{name}.png", np.zeros_like(semseg))
        trees.save(
            root / "pascal-context/trainval" / f"{name}.mat", labels.astype(np.uint16), "LabelMap"
        )
        trees.save(root / "normals_distill" / f"{name}.png", trees.as_picture(normals))
        trees.save(root / "sal_distill" / f"{name}.png", saliency)
        head, arm = mask(slice(2, 9), slice(3, 9)), mask(slice(6, 20), slice(5, 12))
        objects = [
            ("dog", [("head", mask(slice(20, 30), slice(20, 30)))]),
            ("person", [("head", head), ("luarm", arm), ("rhand", mask(slice(19, 22)))]),
            ("person", []),
        ]
        trees.save_parts(root / "human_parts" / f"{name}.mat", objects[: index + 1])
        parts = np.zeros(trees.SIZE, np.int64)
        parts[2:9, 3:9], parts[6:20, 5:12], parts[19:22] = 1, 3, 4
        stored["image"][name], stored["semseg"][name] = image, semseg
        stored["labels"][name], stored["saliency"][name] = labels, saliency
        stored["normals"][name] = normals
        stored["human_parts"][name] = parts if index else np.full(trees.SIZE, 255)
    lists = root / "ImageSets" / "Context"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(IDS))
    (lists / "val.txt").write_text("\n".join(IDS[:2]))
    return Pascal(root, stored)


def test_what_was_written_is_what_is_loaded(trees: Any, pascal: Pascal) -> None:
    data = open_pascal_context(str(pascal.root), "train")
    assert (data.name, data.split, data.ids) == ("pascal_context", "train", IDS)
    assert set(data.targets) == TARGETS
    assert data.targets["semseg"].labels == OBJECTS
    assert data.targets["human_parts"].labels == PARTS
    for index, name in enumerate(IDS):
        sample = data.load(index)
        assert data.size(index) == trees.SIZE
        np.testing.assert_allclose(sample.image.astype(int), pascal.stored["image"][name], atol=4)
        found = sample.targets
        assert {key: (value.dtype.name, value.shape) for key, value in found.items()} == {
            **dict.fromkeys(TARGETS, ("int64", trees.SIZE)),
            "normals": ("float32", (*trees.SIZE, 3)),
        }
        np.testing.assert_array_equal(found["semseg"], pascal.stored["semseg"][name])
        np.testing.assert_array_equal(found["human_parts"], pascal.stored["human_parts"][name])
        saliency = pascal.stored["saliency"][name] / 255 > 0.5
        np.testing.assert_array_equal(found["saliency"], saliency)
        labels = pascal.stored["labels"][name]
        lines = ndimage.laplace(labels.astype(int), mode="mirror") != 0
        np.testing.assert_array_equal(found["edges"], thin(lines))
        assert 0 < found["edges"].sum() < lines.sum()
        normals = np.where((labels == GROUND)[..., None], 0, pascal.stored["normals"][name])
        np.testing.assert_allclose(found["normals"], normals, atol=0.012)
        assert ((labels != GROUND) & found["normals"].any(axis=2)).any()


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 3)))
def test_the_laplacian_is_that_of_scipy(values: np.ndarray) -> None:
    expected = ndimage.laplace(values.astype(np.int64), mode="mirror")
    np.testing.assert_array_equal(laplacian(values), expected)


def test_a_map_of_one_class_has_no_edges(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"LabelMap": np.full((5, 6), WALL)})
    assert not edge_target([tmp_path / "a.mat"], (5, 6)).any()


def test_the_classes() -> None:
    assert len(OBJECTS.names) == 21
    assert OBJECTS.palette is not None
    assert OBJECTS.palette[0] == (0, 0, 0)
    assert OBJECTS.palette[15] == (192, 128, 128)  # a person, as VOC draws it
    assert OBJECTS.names[15] == "person"
    assert not PARTS.swap_pairs
    assert set(PART_NUMBERS.values()) == set(range(1, len(PARTS.names)))
    for part, number in PART_NUMBERS.items():
        if part[0] in "lr" and part != "leye":
            assert PART_NUMBERS["r" + part[1:]] == PART_NUMBERS["l" + part[1:]] == number


def test_classes_shared_with_nyud() -> None:
    assert len(SHARED_WITH_NYUD) == 170
    assert SHARED_WITH_NYUD[WALL] == "wall"
    assert SHARED_WITH_NYUD[427] == "tvmonitor"
    assert GROUND not in SHARED_WITH_NYUD
    assert all(1 <= number <= 459 for number in SHARED_WITH_NYUD)
    names = list(SHARED_WITH_NYUD.values())
    assert names == sorted(names)  # as the numbers of PASCAL-Context are
    assert "unknown" not in names


def test_lists_of_classes_in_the_folder_decide(pascal: Pascal) -> None:
    nyud = {"earth": 1, "wall": 2, "unknown": 3}
    context = {"ground": 7, "earth": GROUND, "unknown": WALL, "tvmonitor": 284}
    before = open_pascal_context(str(pascal.root), "train").digest
    (pascal.root / "nyu_classes.json").write_text(json.dumps(nyud))
    (pascal.root / "context_classes.json").write_text(json.dumps(context))
    assert open_pascal_context(str(pascal.root), "train").digest != before
    labels = pascal.stored["labels"][IDS[1]]
    known = pascal.target(IDS[1], "normals").any(axis=2)
    assert not known[labels == WALL].any()
    np.testing.assert_array_equal(known, (labels != WALL) & pascal.stored["normals"][IDS[1]].any(2))
    (pascal.root / "nyu_classes.json").write_text("[1]")
    with pytest.raises(DataError, match=r"nyu_classes\.json: expected an object"):
        open_pascal_context(str(pascal.root), "train")
    (pascal.root / "nyu_classes.json").write_text("{")
    with pytest.raises(DataError, match=r"nyu_classes\.json: not valid JSON"):
        open_pascal_context(str(pascal.root), "train")


def test_only_the_asked_targets_are_read(pascal: Pascal) -> None:
    for folder in ("semseg/VOC12", "human_parts", "pascal-context/trainval", "normals_distill"):
        for file in (pascal.root / folder).iterdir():
            file.write_bytes(b"damaged")
    data = open_pascal_context(str(pascal.root), "train")
    assert set(data.load(1, ["saliency", "depth"]).targets) == {"saliency"}
    for target in TARGETS - {"saliency"}:
        with pytest.raises(DataError):
            data.load(1, [target])


@pytest.mark.parametrize(
    ("folder", "left"),
    [
        ("semseg", TARGETS - {"semseg"}),
        ("semseg/VOC12", TARGETS),
        ("human_parts", TARGETS - {"human_parts"}),
        ("pascal-context", TARGETS - {"edges", "normals"}),
        ("normals_distill", TARGETS - {"normals"}),
        ("sal_distill", TARGETS - {"saliency"}),
    ],
)
def test_a_folder_that_is_not_there(pascal: Pascal, folder: str, left: set[str]) -> None:
    shutil.rmtree(pascal.root / folder)
    data = open_pascal_context(str(pascal.root), "train")
    assert set(data.targets) == left
    assert set(data.load(0).targets) == left


def test_a_sample_may_lack_targets(pascal: Pascal) -> None:
    for folder in ("pascal-context/trainval", "human_parts"):
        (pascal.root / folder / f"{IDS[0]}.mat").unlink()
    data = open_pascal_context(str(pascal.root), "train")
    assert set(data.load(0).targets) == {"semseg", "saliency"}
    assert set(data.load(1).targets) == TARGETS


def test_the_digest_follows_all_files(pascal: Pascal) -> None:
    def digest() -> str:
        return open_pascal_context(str(pascal.root), "train").digest

    seen = {digest(), open_pascal_context(str(pascal.root), "val").digest}
    assert digest() in seen
    files = [
        path for path in pascal.root.rglob(f"{IDS[1]}.*") if "pascal-context/2" not in str(path)
    ]
    assert len(files) == 6
    for file in files:
        os.utime(file, (1, 1))
        seen.add(digest())
    assert len(seen) == 8


FIRST = IDS[1]
Change = Callable[[Path], Any]


def png(name: str, array: np.ndarray) -> tuple[str, Change]:
    return name, lambda path: Image.fromarray(array).save(path)


def mat(name: str, **variables: Any) -> tuple[str, Change]:
    return name, lambda path: savemat(path, variables)


def raw(name: str, content: bytes) -> tuple[str, Change]:
    return name, lambda path: path.write_bytes(content)


SIZE = (32, 40)
SEMSEG, SALIENCY = f"semseg/VOC12/{FIRST}.png", f"sal_distill/{FIRST}.png"
NORMALS, LABELS = f"normals_distill/{FIRST}.png", f"pascal-context/trainval/{FIRST}.mat"
BODY = f"human_parts/{FIRST}.mat"
PERSON = {"class": "person", "parts": {"part_name": "head", "mask": np.ones(SIZE, np.uint8)}}

MALFORMED: dict[str, tuple[tuple[str, Change], str]] = {
    "class 21": (png(SEMSEG, np.full(SIZE, 21, np.uint8)), "holds 21, expected 0…20"),
    "semseg of another size": (png(SEMSEG, np.ones((32, 41), np.uint8)), "41×32, but its image"),
    "not a picture": (raw(SEMSEG, b"x"), "not an image"),
    "saliency in colour": (png(SALIENCY, np.ones((*SIZE, 3), np.uint8)), "expected (H, W)"),
    "saliency of 0 and 1": (png(SALIENCY, np.ones(SIZE, np.uint8)), "its largest value is 1"),
    "saliency of another size": (png(SALIENCY, np.zeros((3, 4), np.uint8)), "4×3, but"),
    "grey normals": (png(NORMALS, np.ones(SIZE, np.uint8)), "expected 8-bit RGB"),
    "normals of another size": (png(NORMALS, np.ones((4, 5, 3), np.uint8)), "5×4, but"),
    "no label map": (mat(LABELS, Labels=np.ones(SIZE)), "no variable 'LabelMap'"),
    "labels of another size": (mat(LABELS, LabelMap=np.ones((40, 32))), "32×40, but"),
    "labels in part": (mat(LABELS, LabelMap=np.full(SIZE, 0.5)), "no class numbers"),
    "negative labels": (mat(LABELS, LabelMap=np.full(SIZE, -1.0)), "no class numbers"),
    "labels not numbers": (mat(LABELS, LabelMap=np.full(SIZE, np.nan)), "no class numbers"),
    "labels in HDF5": (raw(LABELS, b"MATLAB 7.3 MAT-file".ljust(600)), "7.3"),
    "labels cut short": (raw(LABELS, b"MATLAB 5.0"), "not a MATLAB file"),
    "no annotation": (mat(BODY, parts=1), "no variable 'anno'"),
    "annotation of numbers": (mat(BODY, anno=np.ones(3)), "expected structs with the fields obj"),
    "annotation without objects": (mat(BODY, anno={"imname": "x"}), "structs with the fields obj"),
    "objects as text": (mat(BODY, anno={"objects": "person"}), "the text 'person', expected"),
    "objects without class": (mat(BODY, anno={"objects": {"parts": 1}}), "class, parts"),
    "class is a number": (mat(BODY, anno={"objects": {**PERSON, "class": 15}}), "expected text"),
    "parts as numbers": (mat(BODY, anno={"objects": {**PERSON, "parts": 3}}), "part_name, mask"),
    "unknown part": (
        mat(BODY, anno={"objects": {**PERSON, "parts": {"part_name": "tail", "mask": 1}}}),
        "'tail' is no part of a person",
    ),
    "mask of another size": (
        mat(BODY, anno={"objects": {**PERSON, "parts": {"part_name": "head", "mask": np.eye(5)}}}),
        "5×5, but its image",
    ),
    "mask as text": (
        mat(BODY, anno={"objects": {**PERSON, "parts": {"part_name": "head", "mask": "m"}}}),
        "expected a map of numbers",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_named(pascal: Pascal, case: str) -> None:
    (file, change), says = MALFORMED[case]
    change(pascal.root / file)
    data = open_pascal_context(str(pascal.root), "train")
    with pytest.raises(DataError) as caught:
        data.load(1)
    assert str(pascal.root / file) in caught.value.message
    assert says in caught.value.message


@pytest.mark.parametrize("objects", [[], [("dog", [("head", mask())])], [("person", [])]])
def test_no_part_of_a_person_is_no_measurement(trees: Any, pascal: Pascal, objects: Any) -> None:
    trees.save_parts(pascal.root / BODY, objects)
    assert (pascal.target(FIRST, "human_parts") == 255).all()


@pytest.mark.parametrize("part", PART_NUMBERS)
def test_every_part_has_its_number(trees: Any, pascal: Pascal, part: str) -> None:
    box = mask(slice(4, 12), slice(5, 30))
    trees.save_parts(pascal.root / BODY, [("person", [(part, box)])])
    expected = box.astype(np.int64) * PART_NUMBERS[part]
    np.testing.assert_array_equal(pascal.target(FIRST, "human_parts"), expected)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "2008_000002 1", ".x"])
def test_ids_are_plain_names(pascal: Pascal, name: str) -> None:
    (pascal.root / "ImageSets/Context/train.txt").write_text(name)
    with pytest.raises(DataError, match=r"train\.txt: line 1: .* is not an id"):
        open_pascal_context(str(pascal.root), "train")


def test_a_place_that_is_none(pascal: Pascal, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a path"):
        open_pascal_context("", "train")
    with pytest.raises(DataError, match="no such folder") as caught:
        open_pascal_context(str(tmp_path / "none"), "train")
    assert "PASCAL_MT" in (caught.value.hint or "")
    with pytest.raises(DataError, match=r"train\.txt: no such file"):
        open_pascal_context(str(tmp_path), "train")
    with pytest.raises(UnknownNameError, match="Known: train, val"):
        open_pascal_context(str(pascal.root), "test")
    shutil.rmtree(pascal.root / "JPEGImages")
    with pytest.raises(DataError, match="JPEGImages: no images"):
        open_pascal_context(str(pascal.root), "train")
