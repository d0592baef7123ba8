"""Which way stored normals point is told from what a camera can see."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medusa_core.data.folder import FolderDataset
from medusa_core.errors import DataError
from medusa_tasks.datasets.orientation import VOTERS, axis_signs, turned, voters
from medusa_tasks.datasets.rooms.dataset import Rooms

REAL_DATA = os.environ.get("MEDUSA_REAL_DATA")
ALL_SIGNS = list(itertools.product((1, -1), repeat=3))


@pytest.fixture(scope="module")
def rooms() -> list[np.ndarray]:
    """Rendered scenes, whose normals are exact: x right, y up, z towards the camera."""
    data = Rooms("48x64", "val")
    return [data.load(index, ["normals"]).targets["normals"] for index in range(9)]


@pytest.mark.parametrize("signs", ALL_SIGNS)
def test_turned_axes_are_found(rooms: list[np.ndarray], signs: tuple[int, ...]) -> None:
    stored = [image * np.array(signs, np.float32) for image in rooms]
    assert axis_signs(stored).tolist() == list(signs)


def test_what_is_unclear_stays_as_it_is(rooms: list[np.ndarray]) -> None:
    nothing = np.zeros((4, 4, 3), np.float32)
    flat = np.zeros((8, 8, 3), np.float32)
    flat[..., 2] = -1
    assert axis_signs([]).tolist() == [1, 1, 1]
    assert axis_signs([nothing] * 9).tolist() == [1, 1, 1]
    assert axis_signs([flat] * 9).tolist() == [1, 1, -1]
    assert axis_signs([-rooms[0], -rooms[1]]).tolist() == [1, 1, 1]  # two are too few
    mixed = [image * sign for image, sign in zip(rooms, itertools.cycle((1, -1)))]
    assert axis_signs(mixed).tolist() == [1, 1, 1]


@pytest.mark.skipif(REAL_DATA is None, reason="MEDUSA_REAL_DATA is not set")
@pytest.mark.parametrize("signs", ALL_SIGNS)
def test_photographed_rooms(signs: tuple[int, ...]) -> None:
    data: Any = FolderDataset(str(Path(REAL_DATA or "") / "nyuv2"), "val")
    normals = (data.load(index, ["normals"]).targets["normals"] for index in range(15))
    stored = (np.nan_to_num(image) * np.array(signs, np.float32) for image in normals)
    assert axis_signs(stored).tolist() == list(signs)


@pytest.mark.parametrize("count", [0, 1, VOTERS, 2 * VOTERS - 1, 2 * VOTERS, 100])
def test_voters_are_evenly_spread(tmp_path: Path, count: int) -> None:
    for index in range(count):
        (tmp_path / f"{index:03}.npy").touch()
    places = [int(path.stem) for path in voters(tmp_path, ".npy")]
    assert len(places) == min(count, VOTERS)
    if count > VOTERS:
        steps = np.diff([*places, count])
        assert steps.max() - steps.min() <= 1


def test_files_that_cannot_be_read_have_no_vote(rooms: list[np.ndarray]) -> None:
    stored = {Path(f"{index}.npy"): -image for index, image in enumerate(rooms[:5])}
    damaged = Path("damaged.npy")

    def read(path: Path) -> np.ndarray:
        if path == damaged:
            raise DataError(f"{path}: damaged")
        return stored[path]

    first = next(iter(stored))
    found = turned([damaged, *stored], read)(first)
    np.testing.assert_array_equal(found, -stored[first])
    with pytest.raises(DataError, match="damaged"):
        turned([damaged], read)(first)
