"""Small trees in the layouts of published data sets, with known content."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

SIZE = (32, 40)
BLOCK = 8
"""Content is constant on blocks of this size, so that a JPEG of it is nearly exact."""


def blocks(draw: Callable[[tuple[int, ...]], np.ndarray], *channels: int) -> np.ndarray:
    small = draw((SIZE[0] // BLOCK, SIZE[1] // BLOCK, *channels))
    return small.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def facing_the_camera(rng: np.random.Generator) -> np.ndarray:
    """Unit normals as a camera sees them: x right, y up, z towards it; a block has none."""
    height, width = SIZE[0] // BLOCK, SIZE[1] // BLOCK
    up, right = np.mgrid[1 : -1 : height * 1j, -1 : 1 : width * 1j]
    vectors = np.stack([-right, -up, np.full_like(up, 0.8)], axis=2)
    vectors += rng.uniform(-0.2, 0.2, vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors[0, 0] = 0
    return vectors.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1).astype(np.float32)


def as_picture(normals: np.ndarray) -> np.ndarray:
    return np.rint((normals + 1) * 127.5).astype(np.uint8)


def save(path: Path, array: np.ndarray, variable: str = "") -> None:
    """Write an array as the kind of file its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".mat":
        savemat(path, {variable: array}, do_compression=True)
    else:
        exact = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
        Image.fromarray(array).save(path, **exact)


@dataclass
class Content:
    """What the samples of a tree hold: id → array."""

    image: dict[str, np.ndarray] = field(default_factory=dict)
    semseg: dict[str, np.ndarray] = field(default_factory=dict)
    depth: dict[str, np.ndarray] = field(default_factory=dict)
    normals: dict[str, np.ndarray] = field(default_factory=dict)
    edges: dict[str, np.ndarray] = field(default_factory=dict)


def make_content(ids: Sequence[str], classes: int, seed: int = 0) -> Content:
    rng = np.random.default_rng(seed)
    content = Content()
    for name in ids:
        content.image[name] = blocks(lambda s: rng.integers(0, 256, s, np.uint8), 3)
        content.semseg[name] = blocks(lambda s: rng.integers(-1, classes, s))
        depth = blocks(lambda s: rng.uniform(0.7, 9.9, s).astype(np.float32))
        depth[:BLOCK, :BLOCK] = 0
        content.depth[name] = depth
        content.normals[name] = facing_the_camera(rng)
        content.edges[name] = rng.integers(0, 2, SIZE)
    return content


def write_nyud(
    root: Path,
    content: Content,
    kinds: Mapping[str, str],
    signs: Sequence[int] = (1, 1, 1),
    val: int = 2,
) -> Path:
    """NYUD_MT with files of these kinds (folder → suffix); `.mat` ones make it ASTMT's."""
    for name, image in content.image.items():
        at = {folder: root / folder / f"{name}{kind}" for folder, kind in kinds.items()}
        save(at["images"], image)
        if "segmentation" in at:
            stored = (content.semseg[name] + 1).astype(np.uint8)
            save(at["segmentation"], stored, "segmentation")
        if "depth" in at:
            save(at["depth"], content.depth[name], "depth")
        if "normals" in at:
            normals = content.normals[name] * np.array(signs, np.float32)
            save(at["normals"], normals if kinds["normals"] == ".npy" else as_picture(normals))
        if "edge" in at:
            edge = content.edges[name].astype(np.uint8)
            save(at["edge"], edge if kinds["edge"] == ".npy" else edge * np.uint8(255))
    lists = root / "gt_sets"
    lists.mkdir(parents=True)
    ids = list(content.image)
    (lists / "train.txt").write_text("".join(f"{name}\n" for name in ids))
    (lists / "val.txt").write_text("\r\n".join(ids[:val]) + "\r\n\r\n")
    return root


NYUD_MT = {
    "images": ".jpg",
    "segmentation": ".png",
    "depth": ".npy",
    "normals": ".npy",
    "edge": ".npy",
}
PICTURES = {**NYUD_MT, "images": ".png", "normals": ".png", "edge": ".png"}
ASTMT = {
    "images": ".jpg",
    "segmentation": ".mat",
    "depth": ".mat",
    "normals": ".jpg",
    "edge": ".png",
}


def write_mtan(root: Path, content: Content, channels_first: bool = False) -> Path:
    """MTAN's copy; the ids of the content are ignored, files are numbered."""

    def put(folder: str, number: int, array: np.ndarray) -> None:
        if channels_first and array.ndim == 3:
            array = array.transpose(2, 0, 1)
        for split in ("train", "val"):
            save(root / split / folder / f"{number}.npy", array)

    for number, name in enumerate(content.image):
        put("image", number, content.image[name] / 255)
        put("label", number, content.semseg[name].astype(np.float32))
        put("depth", number, content.depth[name][..., None])
        put("normal", number, content.normals[name])
    return root


@pytest.fixture
def trees() -> ModuleType:
    """This module: what writes the trees."""
    return sys.modules[__name__]


@pytest.fixture
def content() -> Content:
    return make_content([f"{number:04d}" for number in (3, 10, 11, 700)], classes=40)


@pytest.fixture
def nyud(tmp_path: Path, content: Content) -> Path:
    return write_nyud(tmp_path / "NYUD_MT", content, NYUD_MT)


def structs(fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """A 1×N struct array, as MATLAB has it."""
    made = np.empty((1, len(rows)), [(name, object) for name in fields])
    for index, row in enumerate(rows):
        made[0, index] = tuple(row)
    return made


def save_parts(path: Path, objects: Sequence[tuple[str, Sequence[tuple[str, np.ndarray]]]]) -> None:
    """`anno` of PASCAL-Parts: objects of a class, each with named masks of its parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (kind, parts) in enumerate(objects, 1):
        masks = [mask for _, mask in parts] or [np.zeros(SIZE, np.uint8)]
        inner = structs(("part_name", "mask"), parts) if parts else np.zeros((0, 0))
        rows.append((kind, float(number), np.maximum.reduce(masks), inner))
    fields = ("class", "class_ind", "mask", "parts")
    inside = structs(fields, rows) if rows else np.zeros((0, 0))
    savemat(path, {"anno": {"imname": path.stem, "objects": inside}}, do_compression=True)
