"""The model in memory: any image size, heads that know nothing of each other, nothing moves."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from medusa_core.api import HeadSpec, OutputSpec
from medusa_core.errors import (
    DataError,
    FingerprintError,
    MedusaWarning,
    NameTakenError,
    PluginError,
    StoreError,
    UnknownNameError,
    UsageError,
    WeightsError,
)
from medusa_core.heads.base import Head
from medusa_core.model import MedusaModel, open_model
from medusa_core.model.images import finish, resized, to_tensor, upsample
from medusa_core.plugin_host.host import Host, default_host, load_host
from medusa_core.plugin_host.registry import Entry, Registry
from medusa_core.plugin_host.report import Provider
from medusa_core.plugin_host.settings import PluginSettings
from medusa_core.store.commit import NewHead, commit_head
from medusa_core.store.weights import from_bytes

HEADS = ("depth", "normals", "semseg")
CHANNELS = {"depth": 1, "normals": 3, "semseg": 4}

MakeModel = Callable[..., Path]
MakeHead = Callable[..., NewHead]


@pytest.fixture
def path(make_model: MakeModel) -> Path:
    return make_model(*HEADS)


@pytest.fixture
def model(path: Path) -> MedusaModel:
    return open_model(path)


def _images(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def _photo(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _without_tasks() -> Host:
    return load_host(settings=PluginSettings(disabled=frozenset({"medusa-tasks"})))


def _state(model: MedusaModel) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[k]) for k, t in one.items())


# ---- forward ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (64, 96), (17, 130)])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_size_goes_in_and_comes_out(
    model: MedusaModel, size: tuple[int, int], batch: int
) -> None:
    outputs = model(_images(*size, batch=batch))
    assert list(outputs) == list(HEADS)
    for name, output in outputs.items():
        assert tuple(output.shape) == (batch, CHANNELS[name], *size)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


def test_an_image_of_any_size_is_padded_and_the_prediction_cropped(model: MedusaModel) -> None:
    """Not squeezed: pixel for pixel what the padded image gets."""
    images = _images(33, 47)
    padded = model.backbone.mean.expand(1, 3, 64, 64).clone()
    padded[..., :33, :47] = images
    whole, cropped = model(padded), model(images)
    for name in HEADS:
        assert torch.equal(cropped[name], whole[name][..., :33, :47])


def test_a_batch_is_its_images(model: MedusaModel) -> None:
    images = _images(33, 47, batch=3)
    together = model(images)
    for i, name in itertools.product(range(3), HEADS):
        alone = model(images[i : i + 1])[name]
        torch.testing.assert_close(alone[0], together[name][i], rtol=1e-4, atol=1e-5)


def test_a_head_does_not_know_which_others_are_asked_for(model: MedusaModel) -> None:
    images = _images(33, 47, batch=2)
    alone = {name: model(images, tasks=[name])[name] for name in HEADS}
    for count in (2, 3):
        for names in itertools.permutations(HEADS, count):
            outputs = model(images, tasks=names)
            assert list(outputs) == list(names)
            assert all(torch.equal(outputs[name], alone[name]) for name in names)
    assert list(model(images, tasks=["depth", "depth"])) == ["depth"]
    assert model(images, tasks=[]) == {}


def test_a_head_does_not_know_which_others_are_present(
    make_model: MakeModel, model: MedusaModel, untrained_head: MakeHead
) -> None:
    images = _images(33, 47)
    before = model(images)
    model.add_head("edges", untrained_head(model.path, "edges", seed=9))
    assert list(model.heads) == ["depth", "edges", "normals", "semseg"]
    during = model(images)
    model.remove_head("edges")
    model.remove_head("depth")
    after = model(images)
    for name in ("normals", "semseg"):
        assert torch.equal(before[name], during[name])
        assert torch.equal(before[name], after[name])
    assert torch.equal(before["depth"], during["depth"])
    single = open_model(make_model("normals", folder="single"))
    reopened = open_model(model.path)
    assert list(reopened.heads) == ["normals", "semseg"]
    assert all(torch.equal(reopened(images)[n], after[n]) for n in reopened.heads)
    assert not torch.equal(single(images)["normals"], after["normals"])  # another seed


def test_two_heads_of_one_task_differ(make_model: MakeModel) -> None:
    model = open_model(make_model("depth", depth_other="depth"))
    outputs = model(_images(33, 47))
    assert not torch.equal(outputs["depth"], outputs["depth_other"])
    assert {stored.task for stored in model.heads.values()} == {"depth"}


@pytest.mark.parametrize("name", ["train", "float", "half", "backbone", "tasks"])
def test_heads_may_have_the_names_of_methods(make_model: MakeModel, name: str) -> None:
    model = open_model(make_model(**{name: "depth"}))
    assert list(model(_images(32, 32))) == [name]
    assert not model.train().training
    model.remove_head(name)
    assert not model.heads


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 32, 32), r"got \(3, 32, 32\)"),
        (torch.zeros(1, 4, 32, 32), r"got \(1, 4, 32, 32\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 3, 15, 64), "64×15 are too small: at least 16"),
    ],
)
def test_images_that_make_no_sense(model: MedusaModel, images: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model(images)


def test_an_unknown_head_has_a_near_match(model: MedusaModel) -> None:
    for call in (
        lambda: model(_images(32, 32), tasks=["depht"]),
        lambda: model.predict(_photo(), tasks=["depht"]),
        lambda: model.head_module("depht"),
        lambda: model.remove_head("depht"),
        lambda: model.rename_head("depht", "x"),
        lambda: open_model(model.path, tasks=["depht"]),
    ):
        with pytest.raises(UnknownNameError, match=r"Unknown head 'depht'\. Did you mean 'depth'"):
            call()


def test_double_and_half_images_are_taken(model: MedusaModel) -> None:
    images = _images(33, 47)
    for dtype, tolerance in ((torch.float64, 0), (torch.float16, 0.05)):
        output = model(images.to(dtype))["depth"]
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, model(images)["depth"], rtol=tolerance, atol=tolerance)


def test_images_may_be_differentiated(model: MedusaModel) -> None:
    images = _images(33, 47).requires_grad_()
    model(images)["depth"].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- nothing moves ---------------------------------------------------------------------------


def test_training_mode_is_refused_everywhere(model: MedusaModel) -> None:
    before = _state(model)
    images = _images(33, 47, batch=2)
    expected = model(images)
    outer = torch.nn.Sequential(model).train()
    assert outer.training
    assert model.train() is model
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    outputs = model(images)
    assert all(torch.equal(outputs[name], expected[name]) for name in HEADS)
    assert _same(before, _state(model))


def test_opening_and_using_a_model_draws_no_random_numbers(path: Path) -> None:
    state = torch.get_rng_state()
    model = open_model(path)
    model(_images(33, 47))
    model.predict(_photo())
    model.verify()
    assert torch.equal(torch.get_rng_state(), state)


def test_opening_twice_gives_the_same_bits(path: Path) -> None:
    one, other = open_model(path), open_model(path)
    assert _same(_state(one), _state(other))
    images = _images(33, 47)
    assert all(torch.equal(one(images)[name], other(images)[name]) for name in HEADS)


# ---- predict ---------------------------------------------------------------------------------


def test_predict_on_an_array_and_a_file_agree(model: MedusaModel, tmp_path: Path) -> None:
    photo = _photo()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    results = model.predict(photo)
    for source in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        again = model.predict(source, tasks=["semseg", "depth"])
        assert list(again) == ["semseg", "depth"]
        for name, result in again.items():
            np.testing.assert_array_equal(result.value, results[name].value)


def test_results_are_decoded(model: MedusaModel) -> None:
    results = model.predict(_photo())
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
    photo = _photo(64, 96)
    raw = model.raw_predictions(photo, ["depth"])["depth"]
    expected = model(to_tensor(photo))["depth"]
    assert torch.equal(raw, expected)
    value = model.predict(photo)["depth"].value
    np.testing.assert_array_equal(value, expected[0, 0].exp().numpy())


def test_the_scale_is_that_of_training_unless_asked(model: MedusaModel) -> None:
    assert model.working_size("depth", (480, 640)) == (72, 96)
    assert model.working_size("depth", (640, 480)) == (96, 72)
    assert model.working_size("depth", (480, 640), long_side=320) == (240, 320)
    assert model.working_size("depth", (20, 2000)) == (16, 96)
    photo = _photo(128, 160)
    raw = model.raw_predictions(photo, ["depth"], long_side=80)["depth"]
    seen = model(to_tensor(resized(photo, (64, 80))))["depth"]
    assert torch.equal(raw, upsample(seen, (128, 160)))


@pytest.mark.parametrize("size", [(16, 16), (17, 300), (301, 18)])
def test_predict_takes_any_shape(model: MedusaModel, size: tuple[int, int]) -> None:
    assert model.predict(_photo(*size))["depth"].value.shape == size


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((20, 20), np.uint8), r"got \(20, 20\) uint8"),
        (np.zeros((20, 20, 4), np.uint8), r"got \(20, 20, 4\)"),
        (np.zeros((20, 20, 3), np.float32), "float32"),
        (np.zeros((20, 15, 3), np.uint8), "The image: 15×20 is too small"),
    ],
)
def test_arrays_that_are_no_images(model: MedusaModel, source: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.predict(source)


def test_files_that_are_no_images(model: MedusaModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        model.predict(tmp_path / "none.png")
    Image.fromarray(_photo(10, 20)).save(tmp_path / "tiny.png")
    with pytest.raises(DataError, match=r"tiny\.png: 20×10 is too small"):
        model.predict(tmp_path / "tiny.png")


def test_a_global_task_is_averaged(model: MedusaModel) -> None:
    task = model.tasks["semseg"]
    spec = task.spec.model_copy(update={"output": OutputSpec(kind="global", channels=4)})
    task.spec = task.inner.spec = spec  # type: ignore[attr-defined]
    images = _images(33, 47, batch=2)
    outputs = model(images)
    assert tuple(outputs["semseg"].shape) == (2, 4)
    raw = torch.arange(8.0).view(1, 2, 2, 2)
    assert finish(raw, task, (33, 47)).tolist() == [[1.5, 5.5]]
    assert model.predict(_photo())["semseg"].value.shape == (4,)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 64), (33, 47), (50, 31)])
def test_a_prediction_at_a_stride_shows_what_the_whole_one_shows(
    model: MedusaModel, size: tuple[int, int], stride: int
) -> None:
    """A ramp is a ramp at every stride; there is a value for every stride-th pixel, and no more."""
    task = model.tasks["semseg"]
    padded = tuple(side + -side % 32 for side in size)
    ramp = torch.arange(padded[1] // 4, dtype=torch.float32).expand(1, 4, padded[0] // 4, -1)
    whole, thin = finish(ramp, task, size), finish(ramp, task, size, stride)
    assert thin.shape == whole[..., ::stride, ::stride].shape
    near = (whole[..., ::stride, ::stride] - thin).abs()
    assert float(near.max()) <= stride / 8 + 1e-6  # half a stride, in cells of four pixels


# ---- adding, removing, renaming --------------------------------------------------------------


def test_a_refused_head_changes_nothing(
    make_model: MakeModel, model: MedusaModel, untrained_head: MakeHead
) -> None:
    before = _state(model)
    with pytest.raises(NameTakenError):
        model.add_head("depth", untrained_head(model.path, "depth", seed=5))
    other = make_model(folder="other", seed=1)
    with pytest.raises(FingerprintError):
        model.add_head("edges", untrained_head(other, "edges"))
    assert _same(before, _state(model))
    assert list(model.heads) == list(HEADS) == list(open_model(model.path).heads)


def test_replacing_a_head_replaces_it_alone(model: MedusaModel, untrained_head: MakeHead) -> None:
    images = _images(33, 47)
    before = model(images)
    model.add_head("depth", untrained_head(model.path, "depth", seed=5), replace=True)
    after = model(images)
    assert not torch.equal(before["depth"], after["depth"])
    assert all(torch.equal(before[name], after[name]) for name in ("normals", "semseg"))
    reopened = open_model(model.path)(images)
    assert all(torch.equal(reopened[name], after[name]) for name in HEADS)


def test_renaming_keeps_the_bits(model: MedusaModel) -> None:
    images = _images(33, 47)
    before = model(images)
    model.rename_head("depth", "indoor")
    assert list(model.heads) == ["indoor", "normals", "semseg"]
    assert torch.equal(model(images)["indoor"], before["depth"])
    with pytest.raises(NameTakenError):
        model.rename_head("indoor", "normals")
    assert list(model.heads) == ["indoor", "normals", "semseg"]


def test_only_the_asked_heads_are_loaded(path: Path) -> None:
    whole = open_model(path)
    part = open_model(path, tasks=["normals"])
    assert list(part.heads) == ["normals"]
    images = _images(33, 47)
    assert torch.equal(part(images)["normals"], whole(images)["normals"])
    with pytest.raises(UnknownNameError, match="depth"):
        part(images, tasks=["depth"])
    weights = next((path / "heads" / "depth").glob("*/head.safetensors"))
    weights.write_bytes(b"damaged")
    assert list(open_model(path, tasks=["normals"]).heads) == ["normals"]
    with pytest.raises(StoreError, match="heads/depth/.* is damaged"):
        open_model(path, tasks=["depth"])


@pytest.mark.parametrize("file", ["head.json", "head.safetensors"])
def test_a_damaged_head_is_in_no_other_heads_way(path: Path, file: str) -> None:
    images = _images(33, 47)
    before = open_model(path)(images)
    next((path / "heads" / "depth").glob(f"*/{file}")).write_bytes(b"damaged")
    with pytest.warns(MedusaWarning, match="damaged|not valid JSON"):
        model = open_model(path)
    assert set(model.heads) == set(before) - {"depth"}
    for name, output in model(images).items():
        assert torch.equal(output, before[name])
    with pytest.raises(StoreError):
        model(images, tasks=["depth"])
    model.remove_head("depth")
    assert not (path / "heads" / "depth").exists()
    assert not open_model(path).orphans


# ---- heads that cannot be used ---------------------------------------------------------------


def _orphaned(path: Path, **options: object) -> MedusaModel:
    with pytest.warns(MedusaWarning):
        return open_model(path, **options)  # type: ignore[arg-type]


def test_a_missing_plugin_makes_orphans(path: Path) -> None:
    model = _orphaned(path, host=_without_tasks())
    assert not model.heads
    assert set(model.orphans) == set(HEADS)
    assert model(_images(33, 47)) == {}
    for call in (
        lambda: model(_images(33, 47), tasks=["depth"]),
        lambda: model.predict(_photo(), tasks=["depth"]),
        lambda: open_model(path, tasks=["depth"], host=_without_tasks()),
    ):
        with pytest.raises(
            PluginError, match=r"'depth' needs the task 'depth' of medusa-heads"
        ) as e:
            call()
        assert e.value.hint is not None
        assert e.value.hint.startswith("pip install 'medusa-heads==")
    model.remove_head("depth")
    assert set(model.orphans) == {"normals", "semseg"}
    assert set(open_model(path).heads) == {"normals", "semseg"}


def _host_with(heads: tuple[Entry[HeadSpec], ...]) -> Host:
    host = default_host()
    registry = Registry("head", [*host.heads, *heads], host.reports)
    return dataclasses.replace(host, heads=registry)


def test_the_other_heads_work_beside_an_orphan(path: Path) -> None:
    """One head was trained with a distribution that is not installed."""
    stored = open_model(path)
    images = _images(33, 47)
    expected = stored(images)
    host = default_host()
    kept = Registry("task", [e for e in host.tasks if e.spec.name != "depth"], host.reports)
    model = _orphaned(path, host=dataclasses.replace(host, tasks=kept))
    assert list(model.orphans) == ["depth"]
    outputs = model(images)
    assert list(outputs) == ["normals", "semseg"]
    assert all(torch.equal(outputs[name], expected[name]) for name in outputs)


@pytest.mark.parametrize("first", HEADS)
def test_a_head_that_works_in_place_does_not_reach_the_others(
    path: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nn.ReLU(inplace=True)` on a feature level is what many people write first."""
    images = _images(33, 47)
    intact = open_model(path)
    expected, photo = intact(images), intact.predict(_photo())
    model = open_model(path)
    module = model.head_module(first)
    module.spoils = True
    plain = type(module).forward

    def spoil(self: Head, features: list[Tensor]) -> Tensor:
        output = plain(self, features)
        for level in features:
            level.mul_(0 if hasattr(self, "spoils") else 1)
        return output

    monkeypatch.setattr(type(module), "forward", spoil)
    outputs, shown = model(images), model.predict(_photo())
    assert all(torch.equal(outputs[name], expected[name]) for name in HEADS)
    assert all(np.array_equal(shown[name].value, photo[name].value) for name in HEADS)


def test_an_architecture_of_the_same_name_elsewhere_does_no_harm(path: Path) -> None:
    """A second plugin may claim a name; heads know whose architecture they were trained with."""
    theirs = default_host().heads.get("linear").model_copy(update={"name": "medusa"})
    entry = Entry(theirs, Provider("other", "medusa-other", "1.0"))
    images = _images(33, 47)
    expected = open_model(path)(images)
    outputs = open_model(path, host=_host_with((entry,)))(images)
    assert all(torch.equal(outputs[name], expected[name]) for name in HEADS)


def _replaced_architecture(**changes: str) -> Host:
    """The installed `medusa` architecture is of another version than the trained heads'."""
    host = default_host()
    entries = [
        Entry(e.spec.model_copy(update=changes), e.provider) if e.spec.name == "medusa" else e
        for e in host.heads
    ]
    return dataclasses.replace(host, heads=Registry("head", entries, host.reports))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"config_model": "medusa_core.heads.configs:BaselineConfig"},
            PluginError,
            "cannot be built from what is installed: .*ValidationError",
        ),
        ({"implementation": "builtins:int"}, PluginError, "cannot be built"),
        (
            {"implementation": "medusa_core.heads.base:Missing"},
            PluginError,
            "failed in the import of",
        ),
        ({"implementation": "medusa_core.heads.baselines:LinearHead"}, WeightsError, "is unknown"),
    ],
)
def test_an_architecture_of_another_version_costs_its_heads_only(
    path: Path, untrained_head: MakeHead, changes: dict[str, str], error: type, message: str
) -> None:
    head = untrained_head(path, "edges", head="hypercolumn")
    commit_head(path, "edges", head, expect_fingerprint=head.manifest.fingerprint)
    model = _orphaned(path, host=_replaced_architecture(**changes))
    assert set(model.orphans) == set(HEADS)
    assert list(model.heads) == ["edges"]
    assert list(model(_images(33, 47))) == ["edges"]
    with pytest.raises(error, match=message):
        model(_images(33, 47), tasks=["depth"])


def test_a_head_of_another_backbone_is_an_error(path: Path) -> None:
    manifest = path / "model.json"
    mark = open_model(path).record.fingerprint
    manifest.write_text(manifest.read_text().replace(mark, "a" * 64))
    with pytest.raises(FingerprintError, match="aaaaaaaaaaaa"):
        open_model(path)


def test_a_backbone_that_timm_builds_otherwise_is_an_error(path: Path) -> None:
    manifest = path / "model.json"
    manifest.write_text(manifest.read_text().replace('"test_resnet"', '"test_vit"'))
    with pytest.raises((WeightsError, UsageError)):
        open_model(path)
    manifest.write_text(manifest.read_text().replace('"test_vit"', '"hf_hub:x/y"'))
    with pytest.raises(UnknownNameError):
        open_model(path)


def test_weights_are_loaded_strictly(model: MedusaModel, untrained_head: MakeHead) -> None:
    stored = model.heads["depth"]
    good = from_bytes(untrained_head(model.path, "depth").weights, "x")
    key = "predict.bias"
    for spoilt, message in (
        ({k: t for k, t in good.items() if k != key}, "predict.bias is missing"),
        ({**good, "more": good[key]}, "more is unknown"),
        ({**good, key: torch.zeros(2)}, r"predict.bias is \(2,\)"),
        ({**good, key: good[key].double()}, r"float64 in the file, .*float32 here"),
    ):
        model.attach("broken", stored, spoilt)
        with pytest.raises(WeightsError, match=message):
            model.require("broken")


# ---- verify ----------------------------------------------------------------------------------


def _kinds(report: dict[str, object]) -> set[str]:
    problems = report["problems"]
    assert isinstance(problems, list)
    return {problem["kind"] for problem in problems}


def test_a_sound_folder_verifies(model: MedusaModel) -> None:
    report = model.verify()
    assert report["ok"] is True
    assert report["problems"] == []
    assert report["probes"] == dict.fromkeys(HEADS, "equal")


def test_verify_reports_a_damaged_head(model: MedusaModel) -> None:
    weights = next((model.path / "heads" / "depth").glob("*/head.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    report = model.verify()
    assert report["ok"] is False
    assert "hash" in _kinds(report)
    assert report["probes"] == {"depth": "not replayed", "normals": "equal", "semseg": "equal"}


def test_verify_reports_a_damaged_backbone(model: MedusaModel) -> None:
    path = model.path / "backbone.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = model.verify()
    assert report["ok"] is False
    assert "hash" in _kinds(report)
    assert report["probes"] == dict.fromkeys(HEADS, "not replayed")


def test_verify_reports_another_fingerprint(model: MedusaModel) -> None:
    """The mean colour is part of the fingerprint: an edited record does not go unnoticed."""
    path = model.path / "model.json"
    mean = model.record.mean[0]
    path.write_text(path.read_text().replace(str(mean), str(mean + 0.001), 1))
    report = model.verify()
    assert report["ok"] is False
    assert "fingerprint" in _kinds(report)


def test_verify_reports_an_output_that_changed(
    model: MedusaModel, untrained_head: MakeHead
) -> None:
    """Whole files, but a head that does not compute what it did when it was committed."""
    head = untrained_head(model.path, "depth", seed=5)
    lying = head.manifest.model_copy(update={"probe": model.heads["depth"].probe})
    commit_head(
        model.path,
        "lying",
        NewHead(lying, head.weights),
        expect_fingerprint=model.record.fingerprint,
    )
    report = model.verify()
    assert report["ok"] is False
    assert _kinds(report) == {"probe"}
    assert report["probes"] == {**dict.fromkeys(HEADS, "equal"), "lying": "different"}


def test_verify_replays_what_it_can(path: Path) -> None:
    model = _orphaned(path, host=_without_tasks())
    report = model.verify()
    assert report["ok"] is True
    assert report["probes"] == dict.fromkeys(HEADS, "not replayed")


def test_verify_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no model folder"):
        open_model(tmp_path / "none")
