"""The `folder` data set: what it reads, and what it says of everything it cannot read."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medusa_core.data import images
from medusa_core.data.folder import FolderDataset
from medusa_core.errors import DataError, UnknownNameError, UsageError

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
REAL_DATA = os.environ.get("MEDUSA_REAL_DATA")


def _png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def _npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def _describe(root: Path, **changes: Any) -> None:
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
            _png(root / kind / f"{name}.png", array)
    _describe(root)
    (root / "train.txt").write_text("\n".join(IDS) + "\n\n", encoding="utf-8")
    (root / "val.txt").write_text("a\n")
    return root


def _load(root: Path, target: str) -> np.ndarray:
    return FolderDataset(str(root), "val").load(0, [target]).targets[target]


def _single(root: Path, target: str, array: np.ndarray, **changes: Any) -> np.ndarray:
    """The decoded target of a sample whose target is this `.npy` file."""
    description = {**TARGETS[target], "path": "stored/{id}.npy", **changes}
    _describe(root, targets={target: description})
    _npy(root / "stored" / "a.npy", array)
    return _load(root, target)


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
            assert sample.targets["depth"][y, x] == (0 if stored == 0 else stored * 0.5 + 1)
            assert sample.targets["semseg"][y, x] == int(pixel["semseg"])
            edge = int(pixel["edges"])
            assert sample.targets["edges"][y, x] == (255 if edge == 77 else int(edge >= 100))
            vector = np.asarray(pixel["normals"], float) * 2 / 255 - 1
            expected = vector / np.linalg.norm(vector) if pixel["normals"].any() else vector * 0
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


def test_npy_files_hold_decoded_values(root: Path) -> None:
    depth = np.random.default_rng(0).uniform(0, 9, SIZE)
    np.testing.assert_array_equal(_single(root, "depth", depth), depth.astype(np.float32))
    classes = np.random.default_rng(0).choice([0, 1, 2, 255], SIZE)
    for dtype in (np.int16, np.int64, np.float32):
        decoded = _single(root, "semseg", classes.astype(dtype))
        np.testing.assert_array_equal(decoded, classes)
        assert decoded.dtype == np.int64
    edges = np.random.default_rng(0).choice([0, 1, 255], SIZE)
    for dtype in (np.uint8, np.float64):
        np.testing.assert_array_equal(_single(root, "edges", edges.astype(dtype)), edges)
    np.testing.assert_array_equal(_single(root, "edges", edges == 1), edges == 1)
    vectors = np.random.default_rng(0).normal(size=(*SIZE, 3))
    vectors[0, 0] = 0
    expected = vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-9)
    np.testing.assert_allclose(_single(root, "normals", vectors), expected, atol=1e-6)


def test_a_binary_npy_of_raw_values_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"stored/a\.npy: holds values other than 0, 1 and 255"):
        _single(root, "edges", np.full(SIZE, 128))


def test_declared_nan_is_invalid_and_undeclared_nan_an_error(root: Path) -> None:
    depth = np.full(SIZE, 2.0)
    depth[1, 2] = np.nan
    decoded = _single(root, "depth", depth, invalid="nan")
    assert decoded[1, 2] == 0
    assert (decoded == 2).sum() == depth.size - 1
    for value in (np.nan, np.inf, -np.inf, 1e300):
        depth[1, 2] = value
        with pytest.raises(DataError, match=r"a\.npy: 1 values are NaN or infinite") as caught:
            _single(root, "depth", depth, invalid=None)
        assert caught.value.hint is not None


def test_nothing_is_invalid_unless_declared(root: Path) -> None:
    changed = {**TARGETS["depth"]}
    del changed["invalid"]
    _describe(root, targets={"depth": changed})
    assert _load(root, "depth").min() == 1.0


@pytest.mark.parametrize(
    ("target", "array", "message"),
    [
        ("normals", np.full((*SIZE, 3), np.nan), "3|NaN"),
        ("normals", np.ones((*SIZE, 2)), "2 channels"),
        ("normals", np.ones(SIZE), "2 axes"),
        ("depth", np.ones((*SIZE, 3)), "3 axes"),
        ("depth", np.ones((6, 7)), "7×6 but its image is 8×6"),
        ("semseg", np.full(SIZE, 0.5), "not whole"),
        ("semseg", np.full(SIZE, np.nan), "not whole"),
        ("semseg", np.full(SIZE, 3), "label 3 is outside the schema: 3 classes"),
        ("semseg", np.full(SIZE, -1), "label -1 is outside"),
        ("edges", np.full(SIZE, np.nan), "other than"),
        ("depth", np.ones(SIZE, complex), "complex128 is not a target"),
        ("depth", np.ones(SIZE, "U3"), "not a target"),
        ("depth", np.ones(6), r"shape \(6,\)"),
    ],
)
def test_npy_files_that_do_not_fit(
    root: Path, target: str, array: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=rf"stored/a\.npy: .*({message})"):
        _single(root, target, array)


def _pickled(path: Path) -> None:
    np.save(path, np.array([[{"a": 1}]], object), allow_pickle=True)


def _raw_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(np.ones(SIZE)))


def _zip(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.ones(SIZE))


def _cut(path: Path) -> None:
    np.save(path, np.ones(SIZE))
    path.write_bytes(path.read_bytes()[:-9])


def _giant(path: Path) -> None:
    np.save(path, np.ones(SIZE))
    path.write_bytes(path.read_bytes().replace(b"(6, 8)", b"(9**99,)"))


@pytest.mark.parametrize("write", [_pickled, _raw_pickle, _zip, _cut, _giant, Path.touch])
def test_files_that_are_no_plain_arrays_are_refused(
    root: Path, write: Callable[[Path], None]
) -> None:
    _describe(root, targets={"depth": {"encoding": "linear", "path": "stored/{id}.npy"}})
    (root / "stored").mkdir()
    write(root / "stored" / "a.npy")
    with pytest.raises(DataError, match=r"stored/a\.npy: not a \.npy file"):
        _load(root, "depth")


def test_damaged_npy_files_give_arrays_or_data_errors(root: Path) -> None:
    _describe(root, targets={"depth": {"encoding": "linear", "path": "stored/{id}.npy"}})
    path = root / "stored" / "a.npy"
    _npy(path, np.ones(SIZE))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    data = FolderDataset(str(root), "val")
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(0, 90)] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            data.load(0)
        except DataError as err:
            assert "a.npy" in err.message  # noqa: PT017


# ---- what cannot be opened -------------------------------------------------------------------


def _no_description(root: Path) -> None:
    (root / "dataset.json").unlink()


def _no_folder(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def _bad_json(root: Path) -> None:
    (root / "dataset.json").write_text("{")


def _binary_json(root: Path) -> None:
    (root / "dataset.json").write_bytes(b"\xff\xfe\x00")


def _deep_json(root: Path) -> None:
    (root / "dataset.json").write_text("[" * 100_000)


def _big_json(root: Path) -> None:
    (root / "dataset.json").write_text(" " * 4_000_001)


def _list_json(root: Path) -> None:
    (root / "dataset.json").write_text("[]")


def _field(**changes: Any) -> Callable[[Path], None]:
    return lambda root: _describe(root, **changes)


def _ids(text: str, **encoding: str) -> Callable[[Path], None]:
    return lambda root: (root / "val.txt").write_bytes(text.encode(**encoding)) and None


def _link_out(root: Path) -> None:
    outside = root.parent / "outside.png"
    _png(outside, np.zeros((*SIZE, 3), np.uint8))
    (root / "image" / "a.png").unlink()
    (root / "image" / "a.png").symlink_to(outside)


def _link_loop(root: Path) -> None:
    (root / "image" / "a.png").unlink()
    (root / "image" / "a.png").symlink_to(root / "image" / "a.png")


@pytest.mark.parametrize(
    ("spoil", "file"),
    [
        (_no_description, "dataset.json"),
        (_no_folder, "dataset.json"),
        (_bad_json, "dataset.json"),
        (_binary_json, "dataset.json"),
        (_deep_json, "dataset.json"),
        (_big_json, "dataset.json"),
        (_list_json, "dataset.json"),
        (_field(more=1), "dataset.json: more"),
        (_field(schema_version=2), "dataset.json: schema_version"),
        (_field(image="image/x.png"), "dataset.json: image"),
        (_field(targets={"Depth!": TARGETS["depth"]}), "dataset.json: targets"),
        (_field(targets={"depth": {"encoding": "cubic", "path": "{id}"}}), "dataset.json: targets"),
        (_field(targets={"x": {**TARGETS["depth"], "colour": 1}}), "dataset.json: targets.x"),
        (_field(targets={"x": {**TARGETS["semseg"], "labels": []}}), "dataset.json"),
        (_field(targets={"x": {**TARGETS["semseg"], "ignore_index": 1}}), "dataset.json"),
        (_field(targets={"x": {**TARGETS["semseg"], "swap_pairs": [[1, 9]]}}), "dataset.json"),
        (_field(splits={"val": "none.txt"}), "none.txt"),
        (_field(splits={"val": "../val.txt"}), "val.txt"),
        (_field(image="../{id}.png"), "a.png"),
        (_field(image="/{id}.png"), "a.png"),
        (_ids(""), "val.txt"),
        (_ids("a\nsub/b\na\n"), "val.txt"),
        (_ids("ü", encoding="latin-1"), "val.txt"),
        (_ids("../../outside"), "outside.png"),
        (_ids("a\0"), "a"),
        (_link_out, "a.png"),
        (_link_loop, "a.png"),
    ],
)
def test_what_is_wrong_is_named_when_it_is_opened(
    root: Path, spoil: Callable[[Path], None], file: str
) -> None:
    spoil(root)
    with pytest.raises(DataError) as caught:
        FolderDataset(str(root), "val").load(0)
    assert file in caught.value.message
    assert str(root) in caught.value.message


def test_an_absolute_id_cannot_leave_the_folder(root: Path) -> None:
    outside = root.parent / "outside.png"
    _png(outside, np.zeros((*SIZE, 3), np.uint8))
    _describe(root, image="{id}.png", targets={})
    (root / "val.txt").write_text(f"{root.parent}/outside\n")
    with pytest.raises(DataError, match=r"outside\.png: leaves the data-set folder"):
        FolderDataset(str(root), "val")


def test_a_link_within_the_folder_is_followed(root: Path) -> None:
    (root / "image" / "a.png").unlink()
    (root / "image" / "a.png").symlink_to(root / "image" / "sub" / "b.png")
    linked = root.parent / "linked"
    linked.symlink_to(root)
    assert FolderDataset(str(linked), "val").load(0).image.shape == (*SIZE, 3)


def test_files_written_on_windows_are_read(root: Path) -> None:
    (root / "val.txt").write_bytes("\ufeffa\r\n".encode())
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_bytes(f"\ufeff{text}".encode())
    assert FolderDataset(str(root), "val").ids == ("a",)


def test_an_unknown_split_names_the_known_ones(root: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"split 'vall'.*'val'.*Known: train, val") as caught:
        FolderDataset(str(root), "vall")
    assert str(root / "dataset.json") in str(caught.value.hint)


@pytest.mark.parametrize("location", [None, ""])
def test_a_location_is_needed(location: str | None) -> None:
    with pytest.raises(UsageError, match="needs a path"):
        FolderDataset(location, "val")


# ---- files that cannot be read ---------------------------------------------------------------


def _rgba_target(root: Path) -> None:
    _png(root / "depth" / "a.png", np.zeros((*SIZE, 4), np.uint8))


def _colour_target(root: Path) -> None:
    _png(root / "depth" / "a.png", np.zeros((*SIZE, 3), np.uint8))


def _grey_vectors(root: Path) -> None:
    _png(root / "normals" / "a.png", np.zeros(SIZE, np.uint8))


def _other_size(root: Path) -> None:
    _png(root / "semseg" / "a.png", np.zeros((8, 6), np.uint8))


def _bad_label(root: Path) -> None:
    _png(root / "semseg" / "a.png", np.full(SIZE, 3, np.uint8))


def _text_target(root: Path) -> None:
    (root / "edges" / "a.png").write_text("text")


def _folder_target(root: Path) -> None:
    (root / "edges" / "a.png").unlink()
    (root / "edges" / "a.png").mkdir()


def _missing_image(root: Path) -> None:
    (root / "image" / "a.png").unlink()


def _truncated_image(root: Path) -> None:
    path = root / "image" / "a.png"
    path.write_bytes(path.read_bytes()[:-40])


def _text_image(root: Path) -> None:
    (root / "image" / "a.png").write_text("text")


@pytest.mark.parametrize(
    ("spoil", "file", "message"),
    [
        (_rgba_target, "depth/a.png", "RGBA"),
        (_colour_target, "depth/a.png", "3 axes"),
        (_grey_vectors, "normals/a.png", "2 axes"),
        (_other_size, "semseg/a.png", "6×8 but its image is 8×6"),
        (_bad_label, "semseg/a.png", "label 3 is outside the schema"),
        (_text_target, "edges/a.png", "not an image"),
        (_folder_target, "edges/a.png", "cannot be opened"),
        (_missing_image, "image/a.png", "no such file"),
        (_truncated_image, "image/a.png", "truncated"),
        (_text_image, "image/a.png", "not an image"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    root: Path, spoil: Callable[[Path], None], file: str, message: str
) -> None:
    spoil(root)
    data = FolderDataset(str(root), "val")
    with pytest.raises(DataError, match=message) as caught:
        data.load(0)
    assert str(root / file) in caught.value.message
    if file.startswith("image") and "truncated" not in message:
        with pytest.raises(DataError, match=message):
            data.size(0)


def test_huge_images_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 47)
    with pytest.raises(DataError, match=r"image/a\.png: 8×6 is more than"):
        FolderDataset(str(root), "val").load(0)


# ---- digest ----------------------------------------------------------------------------------


def test_the_digest_is_of_the_content(root: Path) -> None:
    first = FolderDataset(str(root), "train").digest
    assert FolderDataset(str(root), "train").digest == first
    assert FolderDataset(str(root), "val").digest != first
    moved = root.rename(root.with_name("moved"))
    assert FolderDataset(str(moved), "train").digest == first


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
    _describe(root, targets={**TARGETS, "edges": {**TARGETS["edges"], "threshold": 101}})
    seen.add(FolderDataset(str(root), "train").digest)
    assert len(seen) == 1 + 2 * 15 + 3


# ---- real data -------------------------------------------------------------------------------

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


def test_half_a_character_in_a_description_is_an_error(root: Path) -> None:
    """JSON can spell one; nothing could be written or hashed with it."""
    path = root / "dataset.json"
    path.write_text(path.read_text().replace('"name": "', '"name": "\\ud800', 1))
    with pytest.raises(DataError, match="not valid JSON"):
        FolderDataset(str(root), "train")


def test_a_pipe_in_place_of_a_description_is_no_wait(root: Path) -> None:
    (root / "dataset.json").unlink()
    os.mkfifo(root / "dataset.json")
    with pytest.raises(DataError, match="not a plain file"):
        FolderDataset(str(root), "train")
