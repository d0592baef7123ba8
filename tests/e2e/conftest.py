"""The command line, called in this process, and a small model to call it on."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medusa_core.cli import main
from medusa_core.testing.fixtures import Done

TINY = ("--set", "head.width=4", "--set", "head.fused_width=4")
FAST = ("--limit", "6", "--size", "64x64", "--steps", "4", "--batch", "2", "--views", "2")
ROOMS = ("--data", "rooms:64x64")
ADD = ("add-task", "edges", *ROOMS, *FAST, *TINY)


def add(task: str, data: Path, *more: str) -> tuple[str, ...]:
    """The command that trains a head called `own` on a `folder` data set."""
    return ("add-task", task, "--name", "own", "--data", f"folder:{data}", *FAST, *TINY, *more)


@pytest.fixture
def medusa(medusa_cli: Callable[..., Done]) -> Callable[..., Done]:
    """Runs a command line; arguments may be paths."""
    return medusa_cli


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with heads for depth and semseg, made by the commands themselves."""
    path = tmp_path_factory.mktemp("original") / "medusa-model"
    init = ["init", path, "--backbone", "test_efficientnet", "--from-scratch"]
    train = ["add-task", "depth,semseg", "-m", path, *ROOMS, *FAST, *TINY]
    for args in (init, train):
        assert main(["--quiet", *map(str, args)]) == 0
    return path


@pytest.fixture
def model(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that model in the working directory, under the default name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(original, tmp_path / "medusa-model")
    return tmp_path / "medusa-model"


def tree(path: Path) -> str:
    """One hash for all files of a model folder; resume state does not count."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        inner = file.relative_to(path)
        if inner.parts[0] != ".work":
            digest.update(f"{inner}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"")
    return digest.hexdigest()


@pytest.fixture
def unchanged(model: Path) -> Iterator[Path]:
    """The model, which must be byte for byte the same after the test."""
    before = tree(model)
    yield model
    assert tree(model) == before


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures, two of one name in different folders."""
    noise = np.random.RandomState(0)
    for name in ("one/street.png", "two/street.png", "two/room.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.randint(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A `folder` data set of one's own: six images with depth and two classes."""
    root, noise = tmp_path / "own", np.random.RandomState(1)
    names = [f"im{i}" for i in range(6)]
    for part in ("image", "depth", "semseg"):
        (root / part).mkdir(parents=True)
    for name in names:
        pixels = noise.randint(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "image" / f"{name}.png")
        np.save(root / "depth" / f"{name}.npy", noise.uniform(1, 5, (64, 64)).astype(np.float32))
        classes = noise.randint(0, 2, (64, 64), dtype=np.uint8)
        Image.fromarray(classes).save(root / "semseg" / f"{name}.png")
    description = {
        "schema_version": 1,
        "name": "own",
        "image": "image/{id}.png",
        "splits": {"train": "train.txt", "val": "val.txt", "empty": "empty.txt"},
        "targets": {
            "depth": {"encoding": "linear", "path": "depth/{id}.npy", "unit": "m", "invalid": 0},
            "semseg": {"encoding": "index", "path": "semseg/{id}.png", "labels": ["sky", "road"]},
        },
    }
    (root / "dataset.json").write_text(json.dumps(description))
    (root / "train.txt").write_text("\n".join(names))
    (root / "val.txt").write_text("\n".join(names[:2]))
    (root / "empty.txt").write_text("\n")
    return root
