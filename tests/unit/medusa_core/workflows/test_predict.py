"""Predicting many files: names, formats, what is there already, what cannot be read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medusa_core.errors import DataError, UnknownNameError, UsageError
from medusa_core.model import MedusaModel
from medusa_core.model.execution import Execution
from medusa_core.model.medusa_model import Result
from medusa_core.workflows.predict import predict
from medusa_core.workflows.prediction import results
from medusa_core.workflows.prediction.inputs import find_files

from .conftest import HEADS, Told


@pytest.mark.parametrize("pattern", [".", "*"])
def test_results_among_images_are_no_images(model: MedusaModel, photos: Path, pattern: str) -> None:
    """What is called like a result, and was there as an image before, is one."""
    for name in ("p0.png", "p0.left.png", "p0.left.16.png"):
        shutil.copy(photos / "p0.jpg", photos / name)
    before = find_files([photos])
    assert len(before) == 6
    for count in (0, 6):
        done = predict(
            [photos / pattern],
            model=model,
            tasks=["depth"],
            out=photos,
            formats=["png", "png16"],
            resume=True,
        )
        assert len(done["images"]) == 6 - count
        assert len(done["skipped"]) == count
    assert find_files([photos]) == before
    shutil.copy(photos / "p0.jpg", photos / "new.left.png")
    assert photos / "new.left.png" in find_files([photos])
    result = photos / "p2.depth.png"
    assert find_files([result]) == [result]


def test_values_are_those_of_the_model_in_order(
    model: MedusaModel, photos: Path, tmp_path: Path
) -> None:
    pattern = photos / "**" / "*.jpg"
    done = predict([pattern], model=model, out=tmp_path / "out", formats=["npy"])
    assert [image["image"] for image in done["images"]] == [str(p) for p in find_files([pattern])]
    for image in done["images"]:
        expected = model.predict(image["image"])
        for entry in image["results"]:
            assert np.array_equal(np.load(entry["values"]), expected[entry["head"]].value)
            assert "rendering" not in entry
    assert len(list((tmp_path / "out").glob("*.npy"))) == 6 * len(HEADS)
    assert not list((tmp_path / "out").glob("*.png"))


def test_16_bit_images_hold_the_values(model: MedusaModel, photos: Path, tmp_path: Path) -> None:
    done = predict(
        [photos / "p0.jpg"],
        model=model,
        tasks=["depth", "semseg"],
        out=tmp_path / "out",
        formats=["png16", "npy"],
    )
    for entry in done["images"][0]["results"]:
        with Image.open(entry["values16"]) as image:
            pixels = np.asarray(image).astype(np.float64)
        low, scale = entry["offset"], entry["scale"]
        expected = np.load(entry["values"]).clip(low, low + 65535 * scale)
        assert np.abs(pixels * scale + low - expected).max() <= scale / 2 + 1e-6


def test_vectors_are_no_16_bit_images(model: MedusaModel, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="normals"):
        predict([photos], model=model, out=tmp_path / "out", formats=["png16"])
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_named(model: MedusaModel, photos: Path) -> None:
    with pytest.raises(UnknownNameError, match="npz"):
        predict([photos], model=model, formats=["npz"])


def test_summaries_are_json(model: MedusaModel, photos: Path, tmp_path: Path) -> None:
    done = predict([photos / "p0.jpg"], model=model, out=tmp_path / "out", formats=["json"])
    written = done["images"][0]["results"]
    found = {entry["head"]: json.loads(Path(entry["summary"]).read_text()) for entry in written}
    assert sum(found["semseg"]["shares"].values()) == pytest.approx(1)
    value = model.predict(photos / "p0.jpg", ["depth"])["depth"].value
    assert found["depth"]["mean"] == pytest.approx(float(value.mean()))
    assert found["depth"]["size"] == [40, 60]


def test_every_image_has_results_of_its_own(
    model: MedusaModel, photos: Path, tmp_path: Path
) -> None:
    """Whatever was predicted into the folder before: all images, of three stems, are told apart."""
    images = []
    for number, name in enumerate(["x/p0.jpg", "y/p0.jpg", "x/p0.png", "x/p2.jpg", "y/P2.jpg"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 60, 3), 50 * number, np.uint8)).save(path)
        images.append(path)
    random = np.random.default_rng(0)
    for trial in range(6):
        out = tmp_path / f"out{trial}"
        places: dict[str, str] = {}
        for _ in range(6):
            some = [image for image in images if random.random() < 0.5] or images
            done = predict(
                some, model=model, out=out, formats=["npy"], tasks=["depth"], resume=True
            )
            new = {image["image"]: image["results"][0]["values"] for image in done["images"]}
            assert new.keys().isdisjoint(places)
            assert set(done["skipped"]) == set(map(str, some)) & places.keys()
            places |= new
        assert len({place.casefold() for place in places.values()}) == len(places)
        for image, place in places.items():
            assert np.array_equal(np.load(place), model.predict(image, ["depth"])["depth"].value)


def test_a_second_folder_does_not_replace_results(
    model: MedusaModel, photos: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(photos, other)
    options = {"model": model, "out": out, "tasks": ["depth"]}
    first = predict([photos], **options)
    assert first["images"][0]["results"][0]["rendering"] == str(out / "p0.depth.png")
    second = predict([other], **options)
    both = [r["results"][0]["rendering"] for r in (*first["images"], *second["images"])]
    assert len(set(both)) == 6
    assert predict([photos], **options)["images"] == first["images"]
    said = json.loads((out / "inputs.json").read_text())
    assert {Path(path) for path in said.values()} == {*photos.glob("*.jpg"), *other.glob("*.jpg")}


def test_what_is_no_result_is_never_replaced(
    model: MedusaModel, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    measured = out / "p2.depth.png"
    measured.write_bytes(b"measured")
    for _ in range(2):  # nothing is recorded by the first
        with pytest.raises(UsageError, match=r"p2\.depth\.png: is there") as caught:
            predict([photos / "p0.jpg", photos / "p2.jpg"], model=model, out=out)
        assert caught.value.hint == "Choose another folder: --out DIR"
    assert os.listdir(out) == ["p2.depth.png"]
    assert measured.read_bytes() == b"measured"
    measured.rename(out / "p2.edges.png")
    predict([photos / "p2.jpg"], model=model, out=out)
    predict([photos / "p2.jpg"], model=model, out=out)  # its own


def test_links_that_lead_to_themselves_end_nothing(
    model: MedusaModel, photos: Path, tmp_path: Path
) -> None:
    (photos / "loop.jpg").symlink_to("loop.jpg")
    done = predict([photos], model=model, tasks=["depth"], out=tmp_path / "out")
    assert len(done["images"]) == 3
    assert [entry["image"] for entry in done["failed"]] == [str(photos / "loop.jpg")]
    result = tmp_path / "out" / "p0.depth.png"
    result.unlink()
    result.symlink_to(result.name)
    predict([photos / "p0.jpg"], model=model, tasks=["depth"], out=tmp_path / "out")
    assert result.is_file()
    assert not result.is_symlink()


@pytest.mark.parametrize(
    "content", ["", "[1]", "\xff", '{"p0": ', '{"p0": 1}', '{"p0": ' + "[" * 100_000]
)
def test_a_damaged_record_is_named(
    model: MedusaModel, photos: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "inputs.json").write_text(content, "latin-1")
    with pytest.raises(DataError, match=r"inputs\.json: does not say") as caught:
        predict([photos], model=model, out=tmp_path, tasks=["depth"])
    assert "--out" in str(caught.value.hint)
    assert not list(tmp_path.glob("*.png"))


def test_what_is_unreadable_is_told_and_the_rest_done(
    model: MedusaModel, photos: Path, tmp_path: Path
) -> None:
    (photos / "p1.jpg").write_bytes(b"\xff\xd8\xff no")
    (photos / "p3.png").write_bytes((photos / "p0.jpg").read_bytes()[:200])
    done = predict([photos], model=model, tasks=["depth"], out=tmp_path / "out")
    assert not done["ok"]
    assert [Path(f["image"]).name for f in done["failed"]] == ["p1.jpg", "p3.png"]
    assert len(done["images"]) == 3


def test_a_result_that_cannot_be_written_ends_it(
    model: MedusaModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left"):
        predict([photos], model=model, tasks=["depth"], out=tmp_path / "out", formats=["npy"])
    assert sorted(os.listdir(tmp_path / "out")) == ["inputs.json", "made-with-depth.json"]


def test_16_bit_images_take_any_value(model: MedusaModel) -> None:
    value = np.array([[np.nan, -1.0, 0.5], [70.0, np.inf, -np.inf]], np.float32)
    result = Result("depth", "depth", value, "m", None)
    found = results.as_16_bit(model.tasks["depth"].spec, result)
    assert found.tolist() == [[0, 0, 500], [65535, 65535, 0]]


def test_tiles_change_little(model: MedusaModel, photos: Path) -> None:
    def value(tile: int | None) -> np.ndarray:
        return model.predict(photos / "p0.jpg", ["depth"], long_side=600, tile=tile)["depth"].value

    whole, tiled = value(None), value(256)
    assert whole.shape == tiled.shape
    assert np.abs(whole - tiled).mean() < 0.05 * np.abs(whole).mean()


def test_tiles_that_cut_nothing_are_told(model: MedusaModel, photos: Path, tmp_path: Path) -> None:
    told = Told()
    for size, said in ((None, 1), (300, 0)):
        told.lines.clear()
        predict(
            photos / "p0.jpg",
            model=model,
            tasks=["depth"],
            out=tmp_path / "out",
            tile=128,
            long_side=size,
            progress=told,
        )
        assert sum("has cut nothing" in line for line in told.lines) == said


def test_what_no_part_of_a_picture_shows_is_not_predicted_in_tiles(
    model: MedusaModel, photos: Path
) -> None:
    tiled = model.predict(photos / "p0.jpg", long_side=300, tile=128)
    spec = model.tasks["depth"].spec
    whole = spec.model_copy(update={"target": spec.target.model_copy(update={"zoom": "invalid"})})
    model.tasks["depth"].spec = whole
    plain, found = (model.predict(photos / "p0.jpg", long_side=300, tile=t) for t in (None, 128))
    assert list(found) == list(plain)
    for name, expected in {"depth": plain, "semseg": tiled, "normals": tiled}.items():
        assert np.array_equal(found[name].value, expected[name].value)


def test_out_of_memory_is_a_matter_of_one_image(
    model: MedusaModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = model.run

    def scarce(views: Any, tile: int | None = None) -> Any:
        if views[0][1].shape[-2] > 42:  # the third image is 44 pixels high
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(views, tile)

    monkeypatch.setattr(model, "run", scarce)
    monkeypatch.setattr(model, "working_size", lambda name, picture, long_side: tuple(picture))
    done = predict([photos], model=model, tasks=["depth"], out=tmp_path / "out")
    assert [Path(image["image"]).name for image in done["images"]] == ["p0.jpg", "p2.jpg"]
    assert "p4.jpg: out of memory" in done["failed"][0]["error"]
    assert "--tile auto" in done["failed"][0]["error"]


def test_tiles_become_smaller_until_they_fit(
    model: MedusaModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tried = model.run, []

    def scarce(views: Any, tile: int | None = None) -> Any:
        tried.append(tile)
        if tile is None or tile > 200:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(views, tile)

    monkeypatch.setattr(model, "run", scarce)
    path = photos / "large.png"
    Image.fromarray(np.zeros((300, 600, 3), np.uint8)).save(path)
    done = predict(
        [path],
        model=model,
        tasks=["depth"],
        long_side=600,
        tile="auto",
        out=tmp_path / "out",
        formats=["npy"],
    )
    assert tried == [None, 300, 150]
    expected = model.predict(path, ["depth"], long_side=600, tile=150)["depth"].value
    assert np.array_equal(np.load(done["images"][0]["results"][0]["values"]), expected)


def test_an_open_model_is_not_run_otherwise(
    model: MedusaModel, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for options in ({"execution": Execution("plain")}, {"device": "meta"}):
        with pytest.raises(UsageError):
            predict([photos], model=model, out=out, **options)
    predict([photos / "p0.jpg"], model=model, out=out, execution=Execution(), device="cpu")


@pytest.mark.parametrize(("option", "says"), [("long_side", "--size 5"), ("tile", "too small")])
def test_what_fits_no_image_is_told_at_once(
    model: MedusaModel, photos: Path, tmp_path: Path, option: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        predict(photos, model=model, out=tmp_path / "out", **{option: 5})  # type: ignore[arg-type]
