"""The procedural data set `rooms`."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medusa_core.api import Sample
from medusa_core.errors import UnknownNameError, UsageError
from medusa_tasks.datasets import rooms
from medusa_tasks.datasets.rooms.dataset import HUMAN_PARTS, SEMSEG, Rooms
from medusa_tasks.datasets.rooms.layout import sample_scene
from medusa_tasks.datasets.rooms.scene import CEILING, CLASSES, FLOOR, PERSON, WALL
from medusa_tasks.datasets.rooms.stream import Stream, derive_seed

DTYPES = {
    "depth": np.float32,
    "normals": np.float32,
    "semseg": np.int64,
    "edges": np.int64,
    "saliency": np.int64,
    "human_parts": np.int64,
}
SOURCES = sorted(Path(rooms.__file__).parent.glob("*.py"))
COUNT = 24


def content(*samples: Sample) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.id.encode())
        for array in (sample.image, *(sample.targets[name] for name in DTYPES)):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def train() -> Rooms:
    return Rooms(None, "train")


@pytest.fixture(scope="module")
def samples(train: Rooms) -> list[Sample]:
    return [train.load(i) for i in range(COUNT)]


@pytest.mark.parametrize(
    ("split", "location", "expected"),
    [
        ("train", None, "0e3079c24ea42f9ce30cb258491ebc1e1ec5118586e550af4a141dfbdd563bde"),
        ("val", None, "4da0dc4094be1faedbd5c3a6f1e7ceb5fd4f2e5cbb0ab8de00132f6fe2d97f9e"),
        ("val", "240x320", "fabbbd498e0cf7f33da1c7fe922996690149945b93ffc1b6986d44beafa2d0c7"),
    ],
)
def test_content_is_the_same_on_every_machine(
    split: str, location: str | None, expected: str
) -> None:
    """Measured results depend on it: a change of content needs a new version of the data set."""
    data = Rooms(location, split)
    assert content(*(data.load(i) for i in range(4))) == expected


def test_samples_do_not_depend_on_order_or_history(train: Rooms, samples: list[Sample]) -> None:
    for i in (5, 0, 11):
        assert content(Rooms("96x128", "train").load(i)) == content(samples[i])


def test_samples_and_splits_differ(samples: list[Sample]) -> None:
    images = {sample.image.tobytes() for sample in samples}
    images |= {Rooms(None, "val").load(i).image.tobytes() for i in range(4)}
    assert len(images) == COUNT + 4


def test_contract(train: Rooms) -> None:
    val = Rooms("240x320", "val")
    assert (train.name, train.split, len(train), len(val)) == ("rooms", "train", 2400, 300)
    assert train.ids[0] == "train-000000"
    assert len(set(train.ids) | set(val.ids)) == 2700
    assert train.size(0) == (96, 128)
    assert val.size(299) == (240, 320)
    assert set(train.targets) == set(DTYPES)
    assert train.targets["depth"].unit == "m"
    assert train.targets["semseg"].labels == SEMSEG
    assert train.targets["human_parts"].labels == HUMAN_PARTS
    assert len({train.digest, val.digest, Rooms(None, "val").digest}) == 3


@pytest.mark.parametrize("location", [None, "48x64", "33x50", "16x40", "64x32"])
def test_shapes_and_dtypes(location: str | None) -> None:
    data = Rooms(location, "val")
    sample = data.load(7)
    height, width = data.size(7)
    assert sample.id == data.ids[7]
    assert sample.image.shape == (height, width, 3)
    assert sample.image.dtype == np.uint8
    for name, dtype in DTYPES.items():
        array = sample.targets[name]
        assert array.dtype == dtype
        assert array.shape == (height, width, 3)[: 3 if name == "normals" else 2]


def test_sizes_show_the_same_scene() -> None:
    small, large = Rooms("48x64", "train").load(3), Rooms("144x192", "train").load(3)
    for name in ("semseg", "saliency", "human_parts"):
        centres = large.targets[name][1::3, 1::3]
        assert (centres == small.targets[name]).mean() > 0.999
    assert np.allclose(large.targets["depth"][1::3, 1::3], small.targets["depth"])


def test_only_asked_targets(train: Rooms, samples: list[Sample]) -> None:
    assert not train.load(0, targets=[]).targets
    some = train.load(0, targets={"edges", "depth", "not_here"})
    assert set(some.targets) == {"depth", "edges"}
    assert np.array_equal(some.targets["edges"], samples[0].targets["edges"])
    assert np.array_equal(some.image, samples[0].image)


def test_values(samples: list[Sample]) -> None:
    for sample in samples:
        targets = sample.targets
        assert np.isfinite(targets["depth"]).all()
        assert targets["depth"].min() > 0.2  # nothing swallows the camera
        assert targets["depth"].max() < 15.0
        assert 0 <= targets["semseg"].min() <= targets["semseg"].max() < len(CLASSES)
        assert 0 <= targets["human_parts"].min() <= targets["human_parts"].max() <= 6
        assert set(np.unique(targets["edges"])) == {0, 1}
        assert set(np.unique(targets["saliency"])) <= {0, 1}
        assert 60 < sample.image.mean() < 200
        assert sample.image.std() > 15


def test_normals_are_unit_and_face_the_camera(train: Rooms, samples: list[Sample]) -> None:
    for i, sample in enumerate(samples):
        normals = sample.targets["normals"].astype(np.float64)
        assert np.allclose((normals * normals).sum(-1), 1.0, atol=1e-5)
        assert ((normals * view_rays(train, i)).sum(-1) < 1e-3).all()


def view_rays(data: Rooms, index: int) -> np.ndarray:
    """Directions in the frame of the normals: x right, y up, z to the camera."""
    height, width = data.size(index)
    step = 2 * data.scene(index).camera.slope / height
    x = (np.arange(width) + 0.5 - width / 2) * step
    y = -(np.arange(height) + 0.5 - height / 2) * step
    u, v = np.meshgrid(x, y)
    return np.stack([u, v, -np.ones_like(u)], axis=-1)


def test_depth_agrees_with_normals_on_planes(train: Rooms, samples: list[Sample]) -> None:
    for i, sample in enumerate(samples):
        points = view_rays(train, i) * sample.targets["depth"].astype(np.float64)[..., None]
        across, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
        found = np.cross(down, across)
        found /= np.linalg.norm(found, axis=-1, keepdims=True)
        agree = (found * sample.targets["normals"][:-1, :-1]).sum(-1)
        flat = np.isin(sample.targets["semseg"], (WALL, FLOOR, CEILING))[:-1, :-1]
        flat &= sample.targets["edges"][:-1, :-1] == 0
        assert (agree[flat] > 0.9999).mean() > 0.995


def test_human_parts_lie_on_persons_and_cover_them(samples: list[Sample]) -> None:
    seen = 0
    for sample in samples:
        person = sample.targets["semseg"] == PERSON
        assert np.array_equal(sample.targets["human_parts"] > 0, person)
        seen += person.mean() > 0.01
    assert seen >= COUNT // 4


def test_edges_separate_classes_and_are_thin(samples: list[Sample]) -> None:
    for sample in samples:
        edges, classes = sample.targets["edges"], sample.targets["semseg"]
        assert edges[:, :-1][classes[:, 1:] != classes[:, :-1]].all()
        assert edges[:-1][classes[1:] != classes[:-1]].all()
        assert 0.01 < edges.mean() < 0.3
        jump = np.abs(np.diff(np.log(sample.targets["depth"]), axis=1)) > 0.5
        same = np.isin(classes, (WALL, FLOOR, CEILING))
        assert edges[:, :-1][jump & (same[:, :-1] != same[:, 1:])].all()


def test_salient_are_persons_or_one_object(samples: list[Sample]) -> None:
    kinds = set()
    for sample in samples:
        salient, classes = sample.targets["saliency"] == 1, sample.targets["semseg"]
        person = classes == PERSON
        if person.mean() > 0.01:
            assert np.array_equal(salient, person)
            kinds.add("person")
        elif salient.any():
            assert len(np.unique(classes[salient])) == 1
            kinds.add("object")
    assert kinds == {"person", "object"}


def test_every_class_is_frequent() -> None:
    data = Rooms("24x32", "train")
    scenes = np.zeros(len(CLASSES))
    for i in range(100, 200):
        present = np.unique(data.load(i, targets=["semseg"]).targets["semseg"])
        scenes[present] += 1
    assert scenes.min() >= 15, dict(zip(CLASSES, scenes.astype(int).tolist(), strict=True))


def test_camera_is_in_the_room_and_upright() -> None:
    for i in range(200):
        scene = sample_scene(Stream(derive_seed("camera test", i)))
        camera = scene.camera
        assert all(0.2 < p < s - 0.2 for p, s in zip(camera.position, scene.room.size, strict=True))
        axes = np.array(camera.axes)
        assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert axes[1, 1] > 0.8
        for solid in scene.solids:
            frame = np.array(solid.axes)
            assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-9)
            inside = np.abs(frame @ (np.array(camera.position) - solid.centre)) < solid.extent
            assert not inside.all()


def test_unknown_split() -> None:
    with pytest.raises(UnknownNameError, match="'test'") as caught:
        Rooms(None, "test")
    assert caught.value.known == ["train", "val"]


@pytest.mark.parametrize("location", ["", "96", "96X128", "96x", "8x64", "64x4096", "-96x128", "a"])
def test_malformed_size(location: str) -> None:
    with pytest.raises(UsageError, match="not a size") as caught:
        Rooms(location, "train")
    assert "240x320" in (caught.value.hint or "")


def test_streams() -> None:
    assert Stream(derive_seed("a", 1)).unit() != Stream(derive_seed("a", 2)).unit()
    s = Stream(derive_seed("range"))
    draws = [s.integer(2, 5) for _ in range(400)]
    assert set(draws) == {2, 3, 4, 5}
    assert all(1.0 <= s.uniform(1.0, 3.0) < 3.0 for _ in range(400))
    assert sorted(s.shuffled(range(9))) == list(range(9))


# Exactly rounded, or no arithmetic on floats at all: the same bits on every machine and version.
NUMPY = {
    "PCG64",
    "abs",
    "arange",
    "argsort",
    "array",
    "astype",
    "bool",
    "concatenate",
    "copyto",
    "empty",
    "errstate",
    "flatnonzero",
    "float32",
    "float64",
    "floor",
    "full",
    "inf",
    "int32",
    "int64",
    "maximum",
    "minimum",
    "ndarray",
    "random",
    "searchsorted",
    "sort",
    "sqrt",
    "uint32",
    "uint64",
    "uint8",
    "where",
    "zeros",
}
INEXACT = {
    "arctan",
    "arctan2",
    "average",
    "cos",
    "cumprod",
    "cumsum",
    "dot",
    "einsum",
    "exp",
    "inner",
    "log",
    "matmul",
    "mean",
    "norm",
    "outer",
    "power",
    "prod",
    "sin",
    "std",
    "sum",
    "tan",
    "tensordot",
    "trace",
    "trapezoid",
    "var",
    "vdot",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_arithmetic_is_portable(path: Path) -> None:
    assert not list(inexact(ast.parse(path.read_text(encoding="utf-8"))))


def inexact(tree: ast.AST) -> Iterator[str]:
    """What may give other bits elsewhere."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Pow | ast.MatMult):
            yield f"operator {type(node).__name__}"
        elif isinstance(node, ast.Attribute):
            owner = node.value
            if isinstance(owner, ast.Attribute) and owner.attr == "random":
                if node.attr != "PCG64":
                    yield f"{line}: random.{node.attr}"
            elif isinstance(owner, ast.Name) and owner.id == "np":
                if node.attr not in NUMPY:
                    yield f"{line}: np.{node.attr}"
            elif isinstance(owner, ast.Name) and owner.id == "math":
                if node.attr != "sqrt":
                    yield f"{line}: math.{node.attr}"
            elif node.attr in INEXACT:
                yield f"{line}: .{node.attr}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or node.names[0].name
            if module.split(".")[0] in {"numpy", "math"} and isinstance(node, ast.ImportFrom):
                yield f"{line}: from {module} import"
            if module.split(".")[0] in {"random", "scipy", "torch", "cmath"}:
                yield f"{line}: import {module}"


@pytest.mark.parametrize(
    "code", ["x ** 2", "a @ b", "np.exp(x)", "x.sum()", "math.sin(x)", "np.random.default_rng(0)"]
)
def test_the_scan_finds_inexact_code(code: str) -> None:
    assert list(inexact(ast.parse(code)))


def test_packages_import_nothing() -> None:
    code = "import sys, medusa_tasks.datasets.rooms; print('numpy' in sys.modules)"
    root = Path(rooms.__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
