"""Which files are meant: names, folders, patterns, and what is left out of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medusa_core.data.images import _FORMATS
from medusa_core.errors import UsageError
from medusa_core.workflows.prediction.inputs import IMAGES, find_files

from ..conftest import Told


def test_patterns_reach_into_folders_and_take_images_only(photos: Path) -> None:
    (photos / "notes.txt").write_text("no image")
    found = [path.name for path in find_files([photos / "**" / "*"])]
    assert sorted(found) == [f"p{i}.jpg" for i in range(6)]
    found = [path.name for path in find_files([photos / "p*.jpg"])]
    assert found == ["p0.jpg", "p2.jpg", "p4.jpg"]


def test_links_that_lead_back_are_followed_once(photos: Path) -> None:
    """Two of them double what is found with every folder further down."""
    for name in ("one", "two"):
        (photos / "deep" / name).symlink_to("..")
    found = find_files([photos / "**" / "*.jpg"])
    assert sorted(path.name for path in found) == [f"p{i}.jpg" for i in range(6)]


def test_folders_with_the_letters_of_a_pattern_are_entered(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, photos / "[a]*")
    far = tmp_path / "far"
    shutil.copytree(photos / "deep", far / ".hidden")
    shutil.copytree(photos / "deep", far / "shown")
    (photos / "far").symlink_to(far)
    found = {path.relative_to(photos) for path in find_files([photos / "**" / "deep" / "**"])}
    odd = ("p1.jpg", "p3.jpg", "p5.jpg")
    assert found == {Path(*place, "deep", name) for place in ((), ("[a]*",)) for name in odd}
    found = {path.relative_to(photos) for path in find_files([photos / "f*" / "**" / "p1.jpg"])}
    assert found == {Path("far", "shown", "p1.jpg")}


def test_brackets_in_folders_that_are_there_are_names(photos: Path) -> None:
    shutil.copytree(photos / "deep", photos / "run [1]" / "deep")
    named = str(photos / "run [1]" / "**" / "p*.jpg")
    assert {path.name for path in find_files([named])} == {"p1.jpg", "p3.jpg", "p5.jpg"}
    [other] = find_files([str(photos / "run [[]1[]]" / "deep" / "p[1].jpg")])
    assert other == photos / "run [1]" / "deep" / "p1.jpg"


def test_an_empty_name_is_not_the_current_folder(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    assert len(find_files(["."])) == 3
    with pytest.raises(UsageError, match="empty name"):
        find_files([""])


def test_hidden_files_are_no_images(photos: Path) -> None:
    """Some systems leave such files beside every copied one."""
    before = find_files([photos])
    shutil.copy(photos / "p0.jpg", photos / "._p0.jpg")
    assert find_files([photos]) == find_files([photos / "*"]) == before
    assert find_files([photos / "._p0.jpg"]) == [photos / "._p0.jpg"]


def test_a_file_with_the_letters_of_a_pattern_is_a_file(photos: Path) -> None:
    odd = photos / "p[1].jpg"
    shutil.copy(photos / "p0.jpg", odd)
    assert list(find_files([odd])) == [odd]


def test_a_pattern_or_folder_without_images_is_an_error(photos: Path, tmp_path: Path) -> None:
    """Also beside others, which would hide that nothing is done about it."""
    (tmp_path / "empty").mkdir()
    for nothing in (photos / "*.tiff", tmp_path / "empty"):
        for named in ([nothing], [photos / "p0.jpg", nothing]):
            with pytest.raises(UsageError, match=f"{nothing.name}: no images".replace("*", ".")):
                find_files(named)
    with pytest.raises(UsageError, match="no images"):
        find_files([])


def test_an_image_named_in_several_ways_is_one(photos: Path, spellings: list[Path]) -> None:
    for first in (spellings, spellings[::-1]):
        assert find_files([photos / "p0.jpg", *first, photos]) == [
            photos / "p0.jpg",
            first[0],
            photos / "p2.jpg",
            photos / "p4.jpg",
        ]


def test_folders_that_look_alike_hold_images_of_their_own(photos: Path, tmp_path: Path) -> None:
    """Above a linked folder is not where the link is."""
    (photos / "far").symlink_to(tmp_path / "other" / "folder")
    (tmp_path / "other" / "folder").mkdir(parents=True)
    shutil.copy(photos / "p0.jpg", tmp_path / "other" / "p0.jpg")
    both = [photos / "p0.jpg", photos / "far" / ".." / "p0.jpg"]
    assert find_files(both) == both


@pytest.mark.parametrize("content", ["[1]", "no json", '{"p0": 1}'])
def test_other_files_called_inputs_are_in_no_images_way(photos: Path, content: str) -> None:
    before = find_files([photos])
    (photos / "inputs.json").write_text(content)
    assert find_files([photos]) == before


def test_folders_are_searched_for_images_and_patterns_for_videos_too(
    photos: Path, write_video: Callable[..., Path]
) -> None:
    clip = photos / "clip.mp4"
    shutil.copy(write_video("clip.mp4", 2), clip)
    assert clip not in find_files([photos])
    assert clip in find_files([photos / "*"])


def test_folders_named_like_images_are_folders(photos: Path) -> None:
    (photos / "folder.jpg").mkdir()
    assert photos / "folder.jpg" not in find_files([photos])


def test_a_quoted_pattern_begins_at_home(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos))
    assert len(find_files(["~/p*.jpg"])) == 3
    monkeypatch.chdir(photos)
    (photos / "~odd.jpg").write_bytes((photos / "p0.jpg").read_bytes())
    assert find_files(["~odd.jpg"]) == [Path("~odd.jpg")]


def test_what_is_left_out_is_told(photos: Path) -> None:
    told = Told()
    assert len(find_files([photos / "p0.jpg", photos], told)) == 3
    assert told.lines == [f"{photos}: 3 to predict; left out: folders (1)."]
    for name in ("a.heic", "b.HEIC", "notes.txt", "no_ending", ".hidden"):
        (photos / name).touch()
    (photos / "p0.depth.png").touch()
    (photos / "inputs.json").write_text(json.dumps({"p0": str(photos / "p0.jpg")}))
    told.lines.clear()
    assert len(find_files([photos / "*"], told)) == 3
    assert told.lines == [
        f"{photos / '*'}: 3 to predict; left out: .heic (2), .txt (1), "
        "results of earlier runs (1), without an ending (1)."
    ]
    with pytest.raises(UsageError, match=r"no images to predict, but \.heic \(1\)"):
        find_files([photos / "*.heic"], told)


@pytest.mark.parametrize("ending", sorted(IMAGES))
def test_images_of_every_ending_are_found(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending.upper()}").touch()
    assert find_files([tmp_path]) == [tmp_path / f"a{ending.upper()}"]
    assert Image.registered_extensions()[ending] in _FORMATS


@pytest.mark.parametrize("named", [b"photo.jpg", np.zeros((4, 4, 3), np.uint8), None, 3])
def test_what_names_no_file_is_refused(named: object) -> None:
    with pytest.raises(UsageError, match="Images are files, folders or patterns, got"):
        find_files([named])  # type: ignore[list-item]
