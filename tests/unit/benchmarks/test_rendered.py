"""Rooms that were rendered beforehand are the rooms that would be rendered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import rendered
from medusa_core.api import Sample
from medusa_tasks.datasets.rooms.dataset import Rooms

COUNTS = {"train": 3, "val": 2}


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The original; what reads files is undone after the test."""
    original = Rooms.load
    monkeypatch.setattr(Rooms, "load", original)
    monkeypatch.setattr(rendered, "SPLITS", COUNTS)
    rendered.read_rooms_from(tmp_path, 2)
    assert Rooms.load is not original
    return original


def require_equal(found: Sample, expected: Sample) -> None:
    assert found.id == expected.id
    assert found.targets.keys() == expected.targets.keys()
    assert found.image.dtype == expected.image.dtype
    assert np.array_equal(found.image, expected.image)
    for name, target in expected.targets.items():
        assert found.targets[name].dtype == target.dtype, name
        np.testing.assert_array_equal(found.targets[name], target, err_msg=name)


@pytest.mark.parametrize("split", COUNTS)
@pytest.mark.parametrize("targets", [None, (), ("edges", "normals")])
def test_samples_are_the_same(render, split: str, targets: tuple[str, ...] | None) -> None:
    rooms = Rooms(None, split)
    for index in range(COUNTS[split]):
        require_equal(rooms.load(index, targets), render(rooms, index, targets))


def test_other_sizes_are_rendered(render) -> None:
    rooms = Rooms("32x48", "val")
    require_equal(rooms.load(1), render(rooms, 1))


def test_what_is_there_is_not_rendered_again(
    render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert len(before) == len(COUNTS) * 7
    rendered.read_rooms_from(tmp_path, 2)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}


def test_what_is_read_may_be_changed(render) -> None:
    rooms = Rooms(None, "val")
    rooms.load(0).image.fill(0)
    assert rooms.load(0).image.any()
