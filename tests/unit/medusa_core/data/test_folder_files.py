"""The `folder` data set: `.npy` files, and what it says of files that cannot be read."""

from __future__ import annotations

import pickle  # to write what must be refused
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medusa_core.data import images
from medusa_core.data.folder import FolderDataset
from medusa_core.errors import DataError

from .conftest import SIZE, TARGETS, describe, load_target, write_png

# ---- .npy ------------------------------------------------------------------------------------


def _npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def _single(root: Path, target: str, array: np.ndarray, **changes: Any) -> np.ndarray:
    """The decoded target of a sample whose target is this `.npy` file."""
    description = {**TARGETS[target], "path": "stored/{id}.npy", **changes}
    describe(root, targets={target: description})
    _npy(root / "stored" / "a.npy", array)
    return load_target(root, target)


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
    expected = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors[0, 0], expected[0, 0] = 0, np.nan
    np.testing.assert_allclose(_single(root, "normals", vectors), expected, atol=1e-6)


def test_vectors_too_long_to_be_measured_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        _single(root, "normals", np.full((*SIZE, 3), 1e25))


def test_numbers_of_several_channels_keep_their_length(root: Path) -> None:
    albedo = np.random.default_rng(0).uniform(0, 1, (*SIZE, 3)).astype(np.float32)
    albedo[1, 2, 0] = -1
    expected = np.where(albedo == -1, np.nan, albedo)
    found = _single(root, "depth", albedo, invalid=-1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("invalid", "measured"), [(2**31 - 1, 2**31 - 48), (2**24 + 1, 2**24)])
def test_integers_beside_the_invalid_one_are_measured(
    root: Path, invalid: int, measured: int
) -> None:
    numbers = np.full((*SIZE, 3), measured, np.int32)
    numbers[1, 2] = invalid
    expected = np.ones(SIZE, bool)
    expected[1, 2] = False
    depth = _single(root, "depth", numbers[..., 0], invalid=invalid)
    normals = _single(root, "normals", numbers, invalid=[invalid] * 3)
    np.testing.assert_array_equal(np.isfinite(depth), expected)
    np.testing.assert_array_equal(np.isfinite(normals).all(axis=2), expected)


def test_a_binary_npy_of_raw_values_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"stored/a\.npy: holds values other than 0, 1 and 255"):
        _single(root, "edges", np.full(SIZE, 128))


def test_declared_nan_is_invalid_and_undeclared_nan_an_error(root: Path) -> None:
    depth = np.full(SIZE, 2.0)
    depth[1, 2] = np.nan
    decoded = _single(root, "depth", depth, invalid="nan")
    assert np.isnan(decoded[1, 2])
    assert (decoded == 2).sum() == depth.size - 1
    for value in (np.nan, np.inf, -np.inf, 1e300):
        depth[1, 2] = value
        with pytest.raises(DataError, match=r"a\.npy: 1 values are NaN or infinite") as caught:
            _single(root, "depth", depth, invalid=None)
        assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("target", "array", "message"),
    [
        ("normals", np.full((*SIZE, 3), np.nan), "3|NaN"),
        ("normals", np.ones((*SIZE, 2)), "2 channels"),
        ("normals", np.ones(SIZE), "2 axes"),
        ("edges", np.ones((*SIZE, 3)), "3 axes"),
        ("depth", np.ones((6, 7)), "7×6 but its image is 8×6"),
        ("semseg", np.full(SIZE, 0.5), "not whole"),
        ("semseg", np.full(SIZE, np.nan), "not whole"),
        ("semseg", np.full(SIZE, 3), "label 3 is outside the schema: 3 classes"),
        ("semseg", np.full(SIZE, -1), "label -1 is outside"),
        ("edges", np.full(SIZE, np.nan), "other than"),
        ("depth", np.ones(SIZE, complex), "complex128 is not a map of numbers"),
        ("depth", np.ones(SIZE, "U3"), "not a map of numbers"),
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
    describe(root, targets={"depth": {"encoding": "linear", "path": "stored/{id}.npy"}})
    (root / "stored").mkdir()
    write(root / "stored" / "a.npy")
    with pytest.raises(DataError, match=r"stored/a\.npy: not a \.npy file"):
        load_target(root, "depth")


def test_damaged_npy_files_give_arrays_or_data_errors(root: Path) -> None:
    describe(root, targets={"depth": {"encoding": "linear", "path": "stored/{id}.npy"}})
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


# ---- files that cannot be read ---------------------------------------------------------------


def _rgba_target(root: Path) -> None:
    write_png(root / "depth" / "a.png", np.zeros((*SIZE, 4), np.uint8))


def _colour_target(root: Path) -> None:
    write_png(root / "edges" / "a.png", np.zeros((*SIZE, 3), np.uint8))


def _grey_vectors(root: Path) -> None:
    write_png(root / "normals" / "a.png", np.zeros(SIZE, np.uint8))


def _other_size(root: Path) -> None:
    write_png(root / "semseg" / "a.png", np.zeros((8, 6), np.uint8))


def _bad_label(root: Path) -> None:
    write_png(root / "semseg" / "a.png", np.full(SIZE, 3, np.uint8))


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
        (_colour_target, "edges/a.png", "3 axes"),
        (_grey_vectors, "normals/a.png", "2 axes"),
        (_other_size, "semseg/a.png", "6×8 but its image is 8×6"),
        (_bad_label, "semseg/a.png", "label 3 is outside the schema"),
        (_text_target, "edges/a.png", "not an image"),
        (_folder_target, "edges/a.png", "not a plain file"),
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
