"""Predicting videos: every frame is an image of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medusa_core.data.video import read_frames
from medusa_core.model import MedusaModel, open_model
from medusa_core.workflows.predict import predict
from medusa_core.workflows.prediction.inputs import find_files

HEADS = ("depth", "semseg", "normals")


@pytest.fixture
def model(make_model: Callable[..., Path]) -> MedusaModel:
    return open_model(make_model(*HEADS))


def test_every_frame_of_a_video_is_predicted(
    model: MedusaModel, write_video: Callable[..., Path], tmp_path: Path
) -> None:
    clip, out = write_video("clip.mp4", 7), tmp_path / "out"
    done = predict([clip], model=model, tasks=["depth"], out=out, formats=["npy"])
    assert [image["frame"] for image in done["images"]] == list(range(7))
    for image, frame in zip(done["images"], read_frames(clip), strict=True):
        assert isinstance(frame.image, np.ndarray)
        path = out / "clip.frames" / f"{frame.number:06d}.depth.npy"
        assert image["results"][0]["values"] == str(path)
        assert image["seconds"] == pytest.approx(frame.seconds)
        assert np.array_equal(np.load(path), model.predict(frame.image, ["depth"])["depth"].value)


def test_frames_of_a_longer_video_do_not_stay(
    model: MedusaModel, write_video: Callable[..., Path], tmp_path: Path
) -> None:
    clip, out = write_video("clip.mp4", 6), tmp_path / "out"
    predict([clip], model=model, tasks=["depth", "normals"], out=out)
    shutil.copy(write_video("short.mp4", 3), clip)
    predict([clip], model=model, tasks=["depth"], out=out)
    for head, count in (("depth", 3), ("normals", 6)):
        found = sorted(path.name for path in (out / "clip.frames").glob(f"*.{head}.png"))
        assert found == [f"{number:06d}.{head}.png" for number in range(count)]


def test_results_of_frames_among_images_are_no_images(
    model: MedusaModel, photos: Path, write_video: Callable[..., Path]
) -> None:
    before = find_files([photos / "**" / "*"])
    predict([write_video("clip.mp4", 2)], model=model, tasks=["depth"], out=photos)
    assert find_files([photos / "**" / "*"]) == before
    other = photos / "clip.frames" / "cover.png"
    shutil.copy(photos / "p0.jpg", other)
    assert other in find_files([photos / "**" / "*"])
    frame = photos / "clip.frames" / "000001.depth.png"
    (frame.parent / "inputs.json").write_text(json.dumps({"000001.depth": str(frame)}))
    assert frame in find_files([photos / "**" / "*"])  # recorded as an image


def test_resume_goes_on_inside_a_video(
    model: MedusaModel, write_video: Callable[..., Path], tmp_path: Path
) -> None:
    clip, out = write_video("clip.mp4", 5), tmp_path / "out"
    predict([clip], model=model, tasks=["depth"], out=out)
    (out / "clip.frames" / "000003.depth.png").unlink()
    done = predict([clip], model=model, tasks=["depth"], out=out, resume=True)
    assert [image["frame"] for image in done["images"]] == [3]
    assert done["skipped"] == [f"{clip}, frame {number}" for number in (0, 1, 2, 4)]


def test_damaged_videos_are_told_and_the_rest_done(
    model: MedusaModel, photos: Path, write_video: Callable[..., Path], tmp_path: Path
) -> None:
    cut = write_video("cut.avi", 8)
    cut.write_bytes(cut.read_bytes()[:-3000])
    (tmp_path / "no.mp4").write_bytes(b"no video")
    images = [tmp_path / "no.mp4", cut, photos / "p0.jpg"]
    done = predict(images, model=model, tasks=["depth"], out=tmp_path / "out")
    assert done["failed"][0]["image"] == str(images[0])
    assert all(failed["image"] in map(str, images[:2]) for failed in done["failed"])
    assert "ends after" in done["failed"][-1]["error"]
    assert {image["image"] for image in done["images"]} == {str(cut), str(photos / "p0.jpg")}


@pytest.mark.parametrize("name", ["...mp4", "a b.mp4"])
def test_results_of_videos_stay_in_the_folder_asked_for(
    model: MedusaModel, write_video: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    before = {path for path in tmp_path.iterdir() if path.name != "work"}
    clip, out = write_video(name, 2), tmp_path / "work"
    predict([clip], model=model, tasks=["depth"], out=out)
    assert set(tmp_path.iterdir()) - before == {clip, out}
    assert len(list(out.glob("*/*.png"))) == 2
