"""The model in memory: any image size, heads that know nothing of each other, nothing moves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medusa_core.errors import (
    FingerprintError,
    NameTakenError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from medusa_core.model import MedusaModel, open_model
from medusa_core.plugin_host.host import Host

from .conftest import HEADS, MakeHead, MakeModel, make_images, make_photo

CHANNELS = {"depth": 1, "normals": 3, "semseg": 4}


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
    outputs = model(make_images(*size, batch=batch))
    assert list(outputs) == list(HEADS)
    for name, output in outputs.items():
        assert tuple(output.shape) == (batch, CHANNELS[name], *size)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


def test_an_image_of_any_size_is_padded_and_the_prediction_cropped(model: MedusaModel) -> None:
    """Not squeezed: pixel for pixel what the padded image gets."""
    images = make_images(33, 47)
    padded = model.backbone.mean.expand(1, 3, 64, 64).clone()
    padded[..., :33, :47] = images
    whole, cropped = model(padded), model(images)
    for name in HEADS:
        assert torch.equal(cropped[name], whole[name][..., :33, :47])


def test_a_batch_is_its_images(model: MedusaModel) -> None:
    images = make_images(33, 47, batch=3)
    together = model(images)
    for i, name in itertools.product(range(3), HEADS):
        alone = model(images[i : i + 1])[name]
        torch.testing.assert_close(alone[0], together[name][i], rtol=1e-4, atol=1e-5)


def test_a_head_does_not_know_which_others_are_asked_for(model: MedusaModel) -> None:
    images = make_images(33, 47, batch=2)
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
    images = make_images(33, 47)
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
    outputs = model(make_images(33, 47))
    assert not torch.equal(outputs["depth"], outputs["depth_other"])
    assert {stored.task for stored in model.heads.values()} == {"depth"}


@pytest.mark.parametrize("name", ["train", "float", "half", "backbone", "tasks"])
def test_heads_may_have_the_names_of_methods(make_model: MakeModel, name: str) -> None:
    model = open_model(make_model(**{name: "depth"}))
    assert list(model(make_images(32, 32))) == [name]
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
        lambda: model(make_images(32, 32), tasks=["depht"]),
        lambda: model.predict(make_photo(), tasks=["depht"]),
        lambda: model.head_module("depht"),
        lambda: model.remove_head("depht"),
        lambda: model.rename_head("depht", "x"),
        lambda: open_model(model.path, tasks=["depht"]),
    ):
        with pytest.raises(UnknownNameError, match=r"Unknown head 'depht'\. Did you mean 'depth'"):
            call()


def test_double_and_half_images_are_taken(model: MedusaModel) -> None:
    images = make_images(33, 47)
    for dtype, tolerance in ((torch.float64, 0), (torch.float16, 0.05)):
        output = model(images.to(dtype))["depth"]
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, model(images)["depth"], rtol=tolerance, atol=tolerance)


def test_images_may_be_differentiated(model: MedusaModel) -> None:
    images = make_images(33, 47).requires_grad_()
    model(images)["depth"].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- nothing moves ---------------------------------------------------------------------------


def test_training_mode_is_refused_everywhere(model: MedusaModel) -> None:
    before = _state(model)
    images = make_images(33, 47, batch=2)
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
    model(make_images(33, 47))
    model.predict(make_photo())
    model.verify()
    assert torch.equal(torch.get_rng_state(), state)


def test_opening_twice_gives_the_same_bits(path: Path) -> None:
    one, other = open_model(path), open_model(path)
    assert _same(_state(one), _state(other))
    images = make_images(33, 47)
    assert all(torch.equal(one(images)[name], other(images)[name]) for name in HEADS)


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
    images = make_images(33, 47)
    before = model(images)
    model.add_head("depth", untrained_head(model.path, "depth", seed=5), replace=True)
    after = model(images)
    assert not torch.equal(before["depth"], after["depth"])
    assert all(torch.equal(before[name], after[name]) for name in ("normals", "semseg"))
    reopened = open_model(model.path)(images)
    assert all(torch.equal(reopened[name], after[name]) for name in HEADS)


def test_renaming_keeps_the_bits(model: MedusaModel) -> None:
    images = make_images(33, 47)
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
    images = make_images(33, 47)
    assert torch.equal(part(images)["normals"], whole(images)["normals"])
    with pytest.raises(UnknownNameError, match="depth"):
        part(images, tasks=["depth"])
    weights = next((path / "heads" / "depth").glob("*/head.safetensors"))
    weights.write_bytes(b"damaged")
    assert list(open_model(path, tasks=["normals"]).heads) == ["normals"]
    with pytest.raises(StoreError, match="heads/depth/.* is damaged"):
        open_model(path, tasks=["depth"])


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta"])
def test_a_device_that_cannot_be_used_is_told_before_anything_is_loaded(
    path: Path, device: str
) -> None:
    with pytest.raises(UsageError, match=f"Device '{device}' cannot be used"):
        open_model(path / "not there", device=device)


def test_observers_hear_that_a_head_was_replaced_that_was_not_loaded(
    path: Path, untrained_head: MakeHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, events = open_model(path, tasks=["normals"]), list[Any]()
    monkeypatch.setattr(Host, "tell", lambda self, event: events.append(event))
    model.add_head("depth", untrained_head(path, "depth", seed=5), replace=True)
    model.add_head("second", untrained_head(path, "depth", seed=5))
    assert [event.replaced for event in events] == [True, False]
