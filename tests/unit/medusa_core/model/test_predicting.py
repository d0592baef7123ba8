"""`predict`: from a picture of any size and kind to decoded results of the same size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medusa_core.api import OutputSpec, Sample
from medusa_core.data.geometry import IDENTITY, place
from medusa_core.engine.binding import Binding
from medusa_core.engine.evaluator import evaluate
from medusa_core.errors import DataError
from medusa_core.model import MedusaModel
from medusa_core.model.images import (
    MIN_SIDE,
    finish,
    resized,
    to_tensor,
    working_size,
)
from medusa_core.model.upsampling import upsample
from medusa_core.progress import SilentProgress
from medusa_core.testing.fakes import FakeDataset

from .conftest import HEADS, make_images, make_photo


def test_predict_on_an_array_and_a_file_agree(model: MedusaModel, tmp_path: Path) -> None:
    photo = make_photo()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    results = model.predict(photo)
    for source in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        again = model.predict(source, tasks=["semseg", "depth"])
        assert list(again) == ["semseg", "depth"]
        for name, result in again.items():
            np.testing.assert_array_equal(result.value, results[name].value)


def test_results_are_decoded(model: MedusaModel) -> None:
    results = model.predict(make_photo())
    depth, normals, semseg = (results[name] for name in HEADS)
    assert depth.value.shape == (40, 60)
    assert depth.value.dtype == np.float32
    assert (depth.value > 0).all()
    assert (depth.unit, depth.labels, depth.task, depth.head) == ("m", None, "depth", "depth")
    assert normals.value.shape == (3, 40, 60)
    np.testing.assert_allclose(np.linalg.norm(normals.value, axis=0), 1, atol=1e-4)
    assert semseg.value.shape == (40, 60)
    assert semseg.value.dtype == np.int64
    assert semseg.labels is not None
    assert semseg.labels.names == ("wall", "floor", "chair", "lamp")
    assert set(np.unique(semseg.value)) <= {0, 1, 2, 3}


def test_a_picture_of_the_trained_size_is_seen_as_it_is(model: MedusaModel) -> None:
    photo = make_photo(64, 96)
    raw = model.raw_predictions(photo, ["depth"])["depth"]
    expected = model(to_tensor(photo))["depth"]
    assert torch.equal(raw, expected)
    value = model.predict(photo)["depth"].value
    np.testing.assert_array_equal(value, expected[0, 0].exp().numpy())


def test_the_scale_is_that_of_training_unless_asked(model: MedusaModel) -> None:
    assert model.working_size("depth", (480, 640)) == (64, 85)
    assert model.working_size("depth", (640, 480)) == (64, 48)
    assert model.working_size("depth", (480, 640), long_side=320) == (240, 320)
    assert model.working_size("depth", (20, 2000)) == (16, 96)
    photo = make_photo(128, 160)
    raw = model.raw_predictions(photo, ["depth"], long_side=80)["depth"]
    seen = model(to_tensor(resized(photo, (64, 80))))["depth"]
    assert torch.equal(raw, upsample(seen, (128, 160)))


@pytest.mark.parametrize("long_side", [40, 80, 160, 200])
def test_what_is_shown_larger_is_as_far_away(model: MedusaModel, long_side: int) -> None:
    """Trained at 64×96, a head looks at 128×160 pixels at half their size, 80 long."""
    photo = make_photo(128, 160)
    raw = model.raw_predictions(photo, HEADS, long_side)
    found = model.predict(photo, HEADS, long_side)
    decoded = {name: model.tasks[name].decode(raw[name])[0].numpy() for name in HEADS}
    np.testing.assert_allclose(found["depth"].value, decoded["depth"] * (long_side / 80), rtol=1e-6)
    for name in ("normals", "semseg"):
        np.testing.assert_array_equal(found[name].value, decoded[name])


def test_scores_are_of_what_is_predicted(model: MedusaModel) -> None:
    """At any scale: a picture whose truth is its prediction has no error."""
    photo = make_photo(128, 160)
    truth = {"depth": model.predict(photo, ["depth"], long_side=160)["depth"].value}
    dataset = FakeDataset(model.tasks["depth"].spec, None, split="val")
    dataset.load = lambda index, targets=None: Sample(str(index), photo, truth)
    bindings = {"depth": Binding(model.tasks["depth"], None)}
    errors = {
        side: evaluate(model, dataset, bindings, SilentProgress(), side)["depth"].scores.figures()
        for side in (160, 80)
    }
    assert errors[160]["rmse"] < 1e-3 < errors[80]["rmse"]


@given(st.integers(16, 3000), st.integers(16, 3000), st.integers(32, 640), st.integers(32, 640))
def test_pictures_are_seen_as_those_of_the_training_were(
    height: int, width: int, rows: int, columns: int
) -> None:
    """Portraits as portraits, squares as squares."""
    found = working_size((rows, columns), (height, width))
    trained = place((height, width), (rows, columns), IDENTITY).size
    assert found == tuple(max(MIN_SIDE, side) for side in trained)


@pytest.mark.parametrize("size", [(16, 16), (17, 300), (301, 18)])
def test_predict_takes_any_shape(model: MedusaModel, size: tuple[int, int]) -> None:
    assert model.predict(make_photo(*size))["depth"].value.shape == size


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((20, 20), np.uint8), r"got \(20, 20\) uint8"),
        (np.zeros((20, 20, 4), np.uint8), r"got \(20, 20, 4\)"),
        (np.zeros((20, 20, 3), np.float32), "float32"),
        (torch.zeros(3, 20, 20), "files or .* arrays, got Tensor"),
        (np.zeros((20, 15, 3), np.uint8), "The image: 15×20 is too small"),
    ],
)
def test_arrays_that_are_no_images(model: MedusaModel, source: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.predict(source)


def test_files_that_are_no_images(model: MedusaModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        model.predict(tmp_path / "none.png")
    Image.fromarray(make_photo(10, 20)).save(tmp_path / "tiny.png")
    with pytest.raises(DataError, match=r"tiny\.png: 20×10 is too small"):
        model.predict(tmp_path / "tiny.png")


def test_a_global_task_is_averaged(model: MedusaModel) -> None:
    task = model.tasks["semseg"]
    spec = task.spec.model_copy(update={"output": OutputSpec(kind="global", channels=4)})
    task.spec = task.inner.spec = spec  # type: ignore[attr-defined]
    images = make_images(33, 47, batch=2)
    outputs = model(images)
    assert tuple(outputs["semseg"].shape) == (2, 4)
    raw = torch.arange(8.0).view(1, 2, 2, 2)
    assert finish(raw, task, (33, 47)).tolist() == [[1.5, 5.5]]
    assert model.predict(make_photo())["semseg"].value.shape == (4,)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 64), (33, 47), (50, 31)])
@pytest.mark.parametrize("cell", [1, 2, 4, 8, 32])
def test_a_prediction_at_a_stride_is_every_nth_pixel_of_the_whole_one(
    model: MedusaModel, size: tuple[int, int], stride: int, cell: int
) -> None:
    """Whatever the resolution of the head: the same values, and the same gradient."""
    task = model.tasks["semseg"]
    height, width = ((side + -side % 32) // cell for side in size)
    raw = torch.randn(2, 5, height, width, dtype=torch.double, requires_grad=True)
    expected = finish(raw, task, size)[..., ::stride, ::stride]
    found = finish(raw, task, size, stride)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((x * weight).sum(), raw)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients)
