"""Heads that are damaged, lack their plugin or misbehave: no other head is the worse for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import Tensor

from medusa_core.api import HeadSpec
from medusa_core.errors import (
    FingerprintError,
    MedusaWarning,
    PluginError,
    StoreError,
    UnknownNameError,
    UsageError,
    WeightsError,
)
from medusa_core.heads.base import Head
from medusa_core.heads.baselines import LinearHead
from medusa_core.model import MedusaModel, open_model
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.plugin_host.registry import Entry, Registry
from medusa_core.plugin_host.report import Provider
from medusa_core.store.commit import commit_head
from medusa_core.store.weights import from_bytes

from .conftest import HEADS, MakeHead, make_images, make_photo, orphaned, without_tasks


@pytest.mark.parametrize("file", ["head.json", "head.safetensors"])
def test_a_damaged_head_is_in_no_other_heads_way(path: Path, file: str) -> None:
    images = make_images(33, 47)
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


def test_a_disabled_plugin_makes_orphans(path: Path) -> None:
    model = orphaned(path, host=without_tasks())
    assert not model.heads
    assert set(model.orphans) == set(HEADS)
    with pytest.raises(PluginError, match="depth"):
        model.require_some(None)
    assert model(make_images(33, 47)) == {}
    for call in (
        lambda: model(make_images(33, 47), tasks=["depth"]),
        lambda: model.predict(make_photo(), tasks=["depth"]),
        lambda: open_model(path, tasks=["depth"], host=without_tasks()),
    ):
        with pytest.raises(
            PluginError, match=r"'depth' needs the task 'depth' of medusa-heads"
        ) as e:
            call()
        assert e.value.hint is not None
        assert e.value.hint.startswith(
            "To have it: change or unset MEDUSA_DISABLE_PLUGINS. Or: pip"
        )
    model.remove_head("depth")
    assert set(model.orphans) == {"normals", "semseg"}
    model.rename_head("semseg", "classes")
    assert set(model.orphans) == {"normals", "classes"}
    assert set(open_model(path).heads) == {"normals", "classes"}


@pytest.mark.parametrize("fault", ["registered twice", "other settings"])
def test_a_task_that_is_ambiguous_or_needs_settings_costs_its_heads_only(
    path: Path, fault: str
) -> None:
    host = default_host()
    depth = next(entry for entry in host.tasks if entry.spec.name == "depth")
    if fault == "registered twice":
        tasks = [*host.tasks, depth]
    else:  # a version of the plugin whose settings have a field without a default
        strict = depth.spec.model_copy(update={"config_model": f"{__name__}:NeedsSettings"})
        tasks = [Entry(strict, e.provider) if e is depth else e for e in host.tasks]
    registry = Registry("task", tasks, host.reports)
    model = orphaned(path, host=dataclasses.replace(host, tasks=registry))
    assert list(model.orphans) == ["depth"]
    assert set(model(make_images(33, 47))) == {"normals", "semseg"}
    with pytest.raises(PluginError, match="Head 'depth'"):
        model.require("depth")


class NeedsSettings(BaseModel):
    """Settings of a task, for the test above."""

    limit: float


def _host_with(heads: tuple[Entry[HeadSpec], ...]) -> Host:
    host = default_host()
    registry = Registry("head", [*host.heads, *heads], host.reports)
    return dataclasses.replace(host, heads=registry)


def test_the_other_heads_work_beside_an_orphan(path: Path) -> None:
    """One head was trained with a distribution that is not installed."""
    stored = open_model(path)
    images = make_images(33, 47)
    expected = stored(images)
    host = default_host()
    kept = Registry("task", [e for e in host.tasks if e.spec.name != "depth"], host.reports)
    model = orphaned(path, host=dataclasses.replace(host, tasks=kept))
    assert list(model.orphans) == ["depth"]
    outputs = model(images)
    assert list(outputs) == ["normals", "semseg"]
    assert all(torch.equal(outputs[name], expected[name]) for name in outputs)


@pytest.mark.parametrize("first", HEADS)
def test_a_head_that_works_in_place_does_not_reach_the_others(
    path: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nn.ReLU(inplace=True)` on a feature level is what many people write first."""
    images = make_images(33, 47)
    intact = open_model(path)
    expected, photo = intact(images), intact.predict(make_photo())
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
    outputs, shown = model(images), model.predict(make_photo())
    assert all(torch.equal(outputs[name], expected[name]) for name in HEADS)
    assert all(np.array_equal(shown[name].value, photo[name].value) for name in HEADS)


def test_a_head_that_works_in_place_on_some_images_does_not_reach_the_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the first image does not show it tells nothing, unless it can be recorded."""
    first, second = make_images(33, 47), make_images(49, 31)
    intact = open_model(path)
    expected = intact(first), intact(second)
    model = open_model(path)
    for name in HEADS:
        monkeypatch.setattr(type(model.head_module(name)), "recordable", False)
    module = model.head_module(HEADS[0])
    plain, shown = type(module).forward, []

    def spoil(self: Head, features: list[Tensor]) -> Tensor:
        output = plain(self, features)
        if shown:
            features[0].zero_()
        return output

    monkeypatch.setattr(type(module), "forward", spoil)
    found = model(first)
    shown.append(True)
    later = model(second)
    for name in HEADS:
        torch.testing.assert_close(found[name], expected[0][name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(later[name], expected[1][name], rtol=1e-4, atol=1e-5)


def test_a_head_that_fails_on_a_later_image_names_its_plugin(
    path: Path, untrained_head: MakeHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it runs as a copy that was made ready with the first."""
    head = untrained_head(path, "edges", head="linear")
    commit_head(path, "edges", head, expect_fingerprint=head.manifest.fingerprint)
    forward = LinearHead.forward

    def landscape_only(self: LinearHead, features: list[Tensor]) -> Tensor:
        height, width = features[0].shape[2:]
        if height > width:
            raise ZeroDivisionError("portrait")
        return forward(self, features)

    monkeypatch.setattr(LinearHead, "forward", landscape_only)
    model = open_model(path)
    model(make_images(32, 64))
    with pytest.raises(PluginError, match=r"medusa-heads .* forward of LinearHead: .*: portrait"):
        model(make_images(64, 32))
    assert set(model(make_images(64, 32), tasks=HEADS)) == set(HEADS)


def test_an_architecture_of_the_same_name_elsewhere_does_no_harm(path: Path) -> None:
    """A second plugin may claim a name; heads know whose architecture they were trained with."""
    theirs = default_host().heads.get("linear").model_copy(update={"name": "medusa"})
    entry = Entry(theirs, Provider("other", "medusa-other", "1.0"))
    images = make_images(33, 47)
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
    model = orphaned(path, host=_replaced_architecture(**changes))
    assert set(model.orphans) == set(HEADS)
    assert list(model.heads) == ["edges"]
    assert list(model(make_images(33, 47))) == ["edges"]
    with pytest.raises(error, match=message):
        model(make_images(33, 47), tasks=["depth"])


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
        older = stored.owner.model_copy(update={"version": "0.0"})
        model.attach("broken", stored.model_copy(update={"owner": older}), spoilt)
        with pytest.raises(PluginError, match=message) as caught:
            model.require("broken")
        assert caught.value.hint == "It was trained with: pip install 'medusa-heads==0.0'"
