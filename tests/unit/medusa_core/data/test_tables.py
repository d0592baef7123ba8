"""Targets of whole images: columns of a CSV file beside the images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medusa_core.data import tables
from medusa_core.data.folder import FolderDataset
from medusa_core.errors import DataError, MedusaWarning

TABLE = "id,x,y,place\na,1.5,-2,hall\nb,,3,yard\nc,4,5,\nother,7,8,hall\n"
TARGETS: dict[str, Any] = {
    "pose": {"encoding": "numbers", "table": "known.csv", "columns": ["x", "y"], "unit": "deg"},
    "tilt": {"encoding": "numbers", "table": "known.csv", "columns": ["y"]},
    "place": {
        "encoding": "class",
        "table": "known.csv",
        "column": "place",
        "labels": ["yard", "hall"],
        "swap_pairs": [[0, 1]],
    },
}


def write(root: Path, table: str = TABLE, **targets: Any) -> Path:
    root.mkdir(exist_ok=True)
    for name in "abc":
        Image.new("RGB", (20, 16)).save(root / f"{name}.png")
    (root / "known.csv").write_text(table)
    (root / "train.txt").write_text("a\nb\nc\n")
    description = {
        "schema_version": 1,
        "name": "own",
        "image": "{id}.png",
        "splits": {"train": "train.txt"},
        "targets": {**TARGETS, **targets},
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_an_image_has_what_its_line_says(tmp_path: Path) -> None:
    data = FolderDataset(str(write(tmp_path)), "train")
    first, second, third = (data.load(i).targets for i in range(3))
    assert first["pose"].dtype == np.float32
    assert first["pose"].tolist() == [1.5, -2]
    assert first["tilt"].shape == ()
    assert first["place"].dtype == np.int64
    assert first["place"] == 1
    assert set(second) == {"tilt", "place"}
    assert set(third) == {"pose", "tilt"}
    assert data.load(0, ["tilt"]).targets.keys() == {"tilt"}
    assert data.targets["pose"].unit == "deg"
    labels = data.targets["place"].labels
    assert labels is not None
    assert labels.names == ("yard", "hall")


def test_the_digest_follows_the_values_of_the_split(tmp_path: Path) -> None:
    root = write(tmp_path)
    first = FolderDataset(str(root), "train").digest
    for table, same in (
        (TABLE.replace("other,7", "other,9"), True),
        (TABLE.replace("1.5", "1.6"), False),
    ):
        (root / "known.csv").write_text(table)
        assert (FolderDataset(str(root), "train").digest == first) == same


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("x,y,place\n1,2,hall\n", "no column 'id'"),
        ("id,x,place\na,1,hall\n", "no column 'y'"),
        ("id,x,y,place\na,1,2,hall\na,1,2,hall\n", "line 3: the id 'a'"),
        ("id,x,y,place\na,1,2\n", "more or fewer fields"),
        ("id,x,y,place\na,1,2,hall,more\n", "more or fewer fields"),
        ("id,x,y,place\na,O.5,2,hall\nb,O.7,2,hall\n", "a: 'O.5' is not a number"),
        ("id,x,y,place\na,1,2,attic\n", "a: 'attic' is not one of the labels"),
        ('id,x,y,place\n"a,1,2,hall\n', "cannot be read as a table"),
        ("", "no column 'id'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        FolderDataset(str(write(tmp_path, table)), "train")
    assert "known.csv" in caught.value.message


@pytest.mark.parametrize("text", ["one", "nan", "inf", "1_0", "1e39", "٣", "0x10", "1,5"])
def test_a_bad_number_is_told_with_its_image_and_leaves_the_rest_alone(
    tmp_path: Path, text: str
) -> None:
    table = f'id,x,y,place\na,1,2,hall\nb,"{text}",2,yard\n'
    with pytest.warns(MedusaWarning, match=rf"1 of 2 values of 'pose' .*'{text}' is not a number"):
        data = FolderDataset(str(write(tmp_path, table)), "train")
    with pytest.raises(DataError, match=rf"known\.csv: b: '{text}' is not a number") as caught:
        data.load(1)
    assert "empty" in str(caught.value.hint)
    assert "--on-bad-sample skip" in str(caught.value.hint)
    assert data.load(0).targets.keys() == set(TARGETS)
    assert data.load(1, ["tilt", "place"]).targets.keys() == {"tilt", "place"}


def test_a_bad_label_is_told_with_its_image_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    table = "id,x,y,place\na,1,2,hall\nb,1,2,attic\n"
    with pytest.warns(MedusaWarning, match=r"1 of 2 values of 'place' .*'attic' is not one"):
        data = FolderDataset(str(write(tmp_path, table)), "train")
    with pytest.raises(DataError, match=r"known\.csv: b: 'attic' is not one of the labels") as err:
        data.load(1)
    assert "yard, hall" in str(err.value.hint)
    assert data.load(0).targets.keys() == set(TARGETS)
    assert data.load(1, ["pose", "tilt"]).targets.keys() == {"pose", "tilt"}


def test_a_number_may_stand_for_unknown(tmp_path: Path) -> None:
    table = "id,x,y,place\na,1,-999,hall\nb,-999.0,3,yard\nc,4,5,\n"
    pose = {**TARGETS["pose"], "invalid": -999}
    data = FolderDataset(str(write(tmp_path, table, pose=pose)), "train")
    assert [sorted(data.load(i).targets) for i in range(3)] == [
        ["place", "tilt"],
        ["place", "tilt"],
        ["pose", "tilt"],
    ]
    assert data.load(0).targets["tilt"] == -999


def test_ids_of_no_image_are_told(tmp_path: Path) -> None:
    table = "id,x,y,place\na.png,1,2,hall\nb.png,1,2,yard\n"
    said = r"none of the 2 ids with '\w+', such as 'a\.png', is one of split 'train', such as 'a'"
    with pytest.warns(MedusaWarning, match=said):
        data = FolderDataset(str(write(tmp_path, table)), "train")
    assert not data.load(0).targets


def test_columns_that_are_not_told_apart_are_shown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'id'") as caught:
        FolderDataset(str(write(tmp_path, "id;x;y\na;1;2\n")), "train")
    assert "commas, and called: id;x;y" in str(caught.value.hint)


def test_a_table_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(TABLE)
    root = write(tmp_path / "own", pose={**TARGETS["pose"], "table": "../secret.csv"})
    with pytest.raises(DataError, match="leaves the data-set folder"):
        FolderDataset(str(root), "train")


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "known.csv").unlink()
    with pytest.raises(DataError, match=r"known\.csv: cannot be read"):
        FolderDataset(str(root), "train")


def test_a_table_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide header over short lines would take columns × lines of memory, were it read first."""
    wide = "id," + ",".join(f"c{i}" for i in range(tables.MAX_COLUMNS)) + "\n"
    with pytest.raises(DataError, match="columns, more than"):
        FolderDataset(str(write(tmp_path, wide + "a\n" * 1000)), "train")
    with pytest.raises(DataError, match="names a column twice"):
        FolderDataset(str(write(tmp_path, "id,y,y\na,1,2\n")), "train")
    monkeypatch.setattr(tables, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="larger than"):
        FolderDataset(str(write(tmp_path)), "train")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.filterwarnings("ignore:.*none of the 3 files")
@pytest.mark.parametrize("name", ["known.csv", "a.png", "a_depth.npy"])
def test_a_pipe_keeps_nobody_waiting(tmp_path: Path, name: str) -> None:
    target = {"encoding": "linear", "path": "{id}_depth.npy", "unit": "m"}
    root = write(tmp_path, depth=target)
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    with pytest.raises(DataError, match="not a plain file"):
        FolderDataset(str(root), "train").load(0)
