"""Weights of backbones: what fits, what is told of what does not, where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from medusa_core.backbones.pretrained import _checkpoint_names, download_pretrained, load_weights
from medusa_core.backbones.timm_backbone import build, describe
from medusa_core.errors import WeightsError

TINY = "test_resnet"


def test_names_of_flattened_modules_are_found() -> None:
    assert "features.denseblock1.x" in _checkpoint_names("features_denseblock1.x")
    assert "stages.0.blocks.1.w" in _checkpoint_names("stages_0.blocks.1.w")
    assert "stem.conv1.weight" in _checkpoint_names("stem_conv1.weight")
    assert "blocks.0.w" in _checkpoint_names("model.blocks.0.w")


def test_half_precision_files_load_as_float32() -> None:
    backbone = build(describe(TINY))
    half = {k: t.half() if t.is_floating_point() else t for k, t in backbone.weights().items()}
    load_weights(backbone, half, "half")
    assert all(t.dtype == torch.float32 for t in backbone.net.parameters())


def _without(tensors: dict[str, Tensor], key: str) -> None:
    del tensors[key]


def _wider(tensors: dict[str, Tensor], key: str) -> None:
    tensors[key] = torch.zeros(3, 5)


def _not_finite(tensors: dict[str, Tensor], key: str) -> None:
    tensors[key][0] = float("nan")


def _infinite(tensors: dict[str, Tensor], key: str) -> None:
    tensors[key][0] = float("inf")


def _complex(tensors: dict[str, Tensor], key: str) -> None:
    tensors[key] = tensors[key].to(torch.complex64)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (_without, "is missing"),
        (_complex, "is torch.complex64, which is not converted"),
        (_wider, r"is \(3, 5\) in the file"),
        (_not_finite, "holds NaN or infinity"),
        (_infinite, "holds NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(
    spoil: Callable[[dict[str, Tensor], str], None], what: str
) -> None:
    backbone = build(describe(TINY))
    before = {key: tensor.clone() for key, tensor in backbone.weights().items()}
    tensors = {key: t + 1 if t.is_floating_point() else t for key, t in before.items()}
    keys = [key for key in tensors if key.endswith(("weight", "running_var"))][3:5]
    for key in keys:
        spoil(tensors, key)
    with pytest.raises(WeightsError, match=rf"bad\.file into {TINY}: 2 problems") as caught:
        load_weights(backbone, tensors, "bad.file")
    for key in keys:
        assert key in caught.value.message
    assert what.replace("\\", "") in caught.value.message
    assert all(torch.equal(t, before[k]) for k, t in backbone.weights().items())


def test_nothing_in_common_is_an_error_with_a_count() -> None:
    backbone = build(describe(TINY))
    with pytest.raises(WeightsError, match=r"problems: .*; …"):
        load_weights(backbone, {}, "empty")


def test_pretrained_weights_are_fetched_by_huggingface_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    file = tmp_path / "model.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), file)

    def fetch(repository: str, filename: str) -> str:
        asked.append((repository, filename))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    path = download_pretrained("resnet18")
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    left = load_weights(build(describe("resnet18")), load_file(path), path)
    assert left == ["fc.bias", "fc.weight"]


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> NoReturn:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"'resnet18' \(timm/resnet18.*no route") as caught:
        download_pretrained("resnet18")
    assert "--weights" in str(caught.value.hint)


def test_a_model_without_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    name = next(n for n in timm.list_models("resnet*") if not timm.list_pretrained(f"{n}.*"))
    with pytest.raises(WeightsError, match="no pretrained weights") as caught:
        download_pretrained(name)
    assert "--weights" in str(caught.value.hint)
