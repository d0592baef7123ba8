"""The `folder` data set: what is wrong with it is named when it is opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medusa_core.data.folder import FolderDataset
from medusa_core.errors import DataError, UnknownNameError, UsageError

from .conftest import SIZE, TARGETS, describe, write_png

EDGES = {"encoding": "binary", "path": "{id}.png"}


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
    return lambda root: describe(root, **changes)


def _ids(text: str, **encoding: str) -> Callable[[Path], None]:
    return lambda root: (root / "val.txt").write_bytes(text.encode(**encoding)) and None


def _link_out(root: Path) -> None:
    outside = root.parent / "outside.png"
    write_png(outside, np.zeros((*SIZE, 3), np.uint8))
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
        *(
            (_field(targets={"edges": {**EDGES, "threshold": value}}), "targets.edges")
            for value in (float("nan"), float("inf"))
        ),
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
    write_png(outside, np.zeros((*SIZE, 3), np.uint8))
    describe(root, image="{id}.png", targets={})
    (root / "val.txt").write_text(f"{root.parent}/outside\n")
    with pytest.raises(DataError, match=r"outside\.png: leaves the data-set folder"):
        FolderDataset(str(root), "val").load(0)


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
