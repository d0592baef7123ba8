"""Every way of running a model agrees with running it as it was trained, or is refused."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medusa_core.backbones.timm_backbone import Backbone, build, describe
from medusa_core.errors import ExecutionError, MedusaWarning, UsageError
from medusa_core.heads.base import Head
from medusa_core.model import execution as executions
from medusa_core.model import open_model
from medusa_core.model.execution import (
    LIMITS,
    Execution,
    Runner,
    allowed_movement,
    movement,
    prepared,
)
from medusa_core.model.inference import computes_bfloat16
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.store.commit import NewHead, commit_head

from .conftest import HEADS, make_images

needs_bfloat16 = pytest.mark.skipif(
    not computes_bfloat16(torch.device("cpu")), reason="this processor has no bfloat16"
)


def _images(height: int = 48, width: int = 64, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def _ran(path: Path, execution: Execution, images: Tensor) -> dict[str, Tensor]:
    return open_model(path, execution=execution)(images)


@pytest.mark.parametrize(
    "execution",
    [
        Execution(),
        pytest.param(Execution(precision="bf16"), marks=needs_bfloat16),
        Execution("openvino"),
    ],
    ids=str,
)
def test_predictions_hardly_move(path: Path, execution: Execution) -> None:
    if execution.engine == "openvino":
        pytest.importorskip("openvino")
    model = open_model(path, execution=execution)
    for images in (_images(), _images(50, 33, 1)):
        _check_movement(path, model, images)


def _check_movement(path: Path, model: MedusaModel, images: Tensor) -> None:
    expected = _ran(path, Execution("plain"), images)
    found = model(images)
    limit = 1e-4 if model.execution.precision == "fp32" else LIMITS["bf16"]
    assert set(found) == set(model.heads)
    assert all(movement(found[name], expected[name]) < limit for name in found)
    assert all(found[name].dtype == torch.float32 for name in found)


@pytest.mark.slow
def test_predictions_of_generated_code_hardly_move(
    make_model: Callable[..., Path], untrained_head: Callable[..., NewHead]
) -> None:
    """Of little code, for a compiler takes seconds for each of its kernels."""
    path = make_model()
    head = untrained_head(path, "depth", "linear")
    commit_head(path, "depth", head, expect_fingerprint=head.manifest.fingerprint)
    model = open_model(path, execution=Execution(compiled=True))
    _check_movement(path, model, _images(50, 33, 1))


@pytest.mark.slow
def test_networks_are_traced_for_every_shape(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of `torch.compile` but the generation of code, which takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    model = open_model(path, HEADS[:1], execution=Execution(compiled=True))
    for images in (_images(), _images(50, 33, 1)):
        _check_movement(path, model, images)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bfloat16)])
def test_a_head_says_the_same_alone_and_in_company(path: Path, precision: str) -> None:
    model = open_model(path, execution=Execution(precision=precision))
    together = model(_images())
    for name in HEADS:
        assert torch.equal(model(_images(), [name])[name], together[name])
        alone = open_model(path, [name], execution=Execution(precision=precision))
        assert torch.equal(alone(_images())[name], together[name])


def test_plain_is_what_the_modules_compute(path: Path) -> None:
    model = open_model(path, execution=Execution("plain"))
    images = _images(64, 64)
    with torch.no_grad():
        raw = model.head_module("depth")(model.backbone(images))
    expected = torch.nn.functional.interpolate(raw, size=(64, 64), mode="bilinear")
    assert torch.equal(model(images)["depth"], expected)


def test_gradients_of_images_are_those_of_the_plain_networks(path: Path) -> None:
    gradients = []
    for execution in (Execution(), Execution("plain")):
        images = _images().requires_grad_()
        _ran(path, execution, images)["depth"].sum().backward()
        gradients.append(images.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("execution", [Execution(), Execution(compiled=True)], ids=str)
def test_a_first_image_that_is_too_large_is_out_of_memory_and_others_are_run_as_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch, execution: Execution
) -> None:
    """Where it is told as anything else, `--tile auto` does not cut it."""
    made: list[str] = []

    def make(module: Any, example: list[Tensor], _: Execution) -> executions.Network:
        plain = executions._plain(module)

        def scarce(tensors: Any) -> list[Tensor]:
            if len(tensors) == 1 and tensors[0].shape[-1] > 64:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            made.append(type(module).__name__)
            return plain(tensors)

        return scarce

    monkeypatch.setitem(executions._MAKERS, "torch", make)
    model = open_model(path, HEADS[:1], execution=execution)
    with pytest.raises(torch.OutOfMemoryError):
        model(_images(48, 96))
    assert not made
    model(_images(48, 64))
    assert len(set(made)) == 2


@needs_bfloat16
def test_what_was_asked_for_is_refused_where_predictions_move(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "bf16", 1e-6)
    with pytest.raises(ExecutionError, match="depth.*move by"):
        _ran(path, Execution(precision="bf16"), _images())


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bfloat16_is_refused_where_it_is_missing(
    path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """OpenVINO alone would compute in float32 there, and say nothing."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setattr(executions, "computes_bfloat16", lambda device: False)
    with pytest.raises(ExecutionError, match="does not compute in bfloat16"):
        _ran(path, Execution(engine, "bf16"), _images())


def test_by_default_the_plain_network_steps_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preparation that goes wrong costs time, not correctness."""
    plain_prepare = executions.prepare

    def wrong(network: torch.nn.Module, pack: bool = True) -> torch.nn.Module:
        fast = plain_prepare(network, pack)
        for parameter in fast.parameters():
            parameter.mul_(1.5)
        return fast

    monkeypatch.setattr(executions, "prepare", wrong)
    model = open_model(path)
    with pytest.warns(MedusaWarning, match="as it was trained"):
        found = model(_images())
    expected = _ran(path, Execution("plain"), _images())
    assert all(torch.equal(found[name], expected[name]) for name in HEADS)


def test_a_head_that_is_refused_moves_no_other(path: Path) -> None:
    class Chaotic(Head):
        """Magnifies the last bits of its features."""

        def forward(self, features: Sequence[Tensor]) -> Tensor:
            return torch.sin(features[0][:, :1] * 1e12)

    model, images = open_model(path), _images()
    runner, heads = Runner(model.backbone, Execution()), {n: model.head_module(n) for n in HEADS}
    chaotic = Chaotic().eval()
    alone = runner(images, heads)
    with pytest.warns(MedusaWarning, match="'chaotic' move"):
        together = runner(images, {**heads, "chaotic": chaotic})
    for found in (together, runner(images, {**heads, "chaotic": chaotic}), runner(images, heads)):
        assert all(torch.equal(found[name], alone[name]) for name in HEADS)
    expected = chaotic(model.backbone(images))
    assert torch.equal(runner(images, {"chaotic": chaotic})["chaotic"], expected)
    _, parts, _ = runner.parts(images, {"chaotic": chaotic})
    assert torch.equal(parts["chaotic"](), expected)  # type: ignore[arg-type]


def test_a_network_that_cannot_be_prepared_is_run_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: torch.nn.Module, pack: bool = True) -> torch.nn.Module:
        raise RuntimeError("no")

    monkeypatch.setattr(executions, "prepare", broken)
    expected = _ran(path, Execution("plain"), _images())
    found = _ran(path, Execution(), _images())
    assert all(torch.equal(found[name], expected[name]) for name in HEADS)
    with pytest.raises(ExecutionError, match="backbone cannot be run"):
        _ran(path, Execution(precision="bf16"), _images())


def test_changed_heads_are_prepared_anew(path: Path, untrained_head: Callable[..., object]) -> None:
    model = open_model(path)
    model(_images())
    model.add_head("depth", untrained_head(path, "depth", seed=7), replace=True)  # type: ignore[arg-type]
    expected = _ran(path, Execution("plain"), _images())["depth"]
    assert movement(model(_images())["depth"], expected) < 1e-4


def test_a_used_model_can_be_copied_and_keeps_its_state(path: Path) -> None:
    model = open_model(path)
    keys = list(model.state_dict())
    expected = model(_images())
    assert list(model.state_dict()) == keys
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(_images())["depth"], expected["depth"])


def test_a_copy_of_a_used_model_runs_its_own_networks(path: Path) -> None:
    model = open_model(path)
    expected = model(_images())["depth"]
    twin: MedusaModel = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.head_module("depth").parameters():
            parameter.zero_()
    assert not torch.equal(twin(_images())["depth"], expected)
    assert torch.equal(model(_images())["depth"], expected)


def test_weights_that_are_loaded_into_a_used_model_are_run(path: Path) -> None:
    model = open_model(path)
    before = model(_images())["depth"]
    nn.Sequential(model).load_state_dict({f"0.{k}": v / 2 for k, v in model.state_dict().items()})
    expected = copy.deepcopy(model)(_images())["depth"]
    assert torch.equal(model(_images())["depth"], expected)
    assert not torch.equal(expected, before)


def test_cards_may_round_as_they_do() -> None:
    """TF32 keeps 10 bits behind the first one, float32 23."""
    on_cards = allowed_movement("fp32", torch.device("cuda"))
    assert LIMITS["fp32"] == allowed_movement("fp32", torch.device("cpu")) < on_cards
    assert on_cards < LIMITS["bf16"] == allowed_movement("bf16", torch.device("cuda"))


def test_threads_that_predict_at_once_get_the_bits_of_one(path: Path) -> None:
    """Also while networks are made ready, recorded, and used at several sizes in turn."""
    inputs = [_images(48 + 32 * index, 64, 1 + index % 2) for index in range(3)]
    plain = open_model(path)
    expected = [[plain(images) for images in inputs] for _ in range(4)][-1]
    model = open_model(path)

    def use(start: int) -> bool:
        order = [(start + step) % 3 for step in range(12)]
        return all(
            torch.equal(found, expected[index][name])
            for index in order
            for name, found in model(inputs[index]).items()
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(4)))


def test_an_empty_batch_gives_empty_predictions(path: Path) -> None:
    assert open_model(path)(_images(batch=2)[:0])["depth"].shape == (0, 1, 48, 64)


@pytest.mark.parametrize(
    "execution",
    [
        Execution("tensorflow"),
        Execution(precision="fp8"),
        Execution("openvino", compiled=True),
        Execution("plain", "bf16"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(path: Path, execution: Execution) -> None:
    with pytest.raises(UsageError):
        open_model(path, execution=execution)


def test_a_missing_engine_names_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(UsageError) as caught:
        open_model(path, execution=Execution("openvino"))
    assert "medusa-heads[openvino]" in str(caught.value.hint)


@torch.inference_mode()
def test_a_prepared_backbone_gives_the_same_features(path: Path) -> None:
    backbone = open_model(path).backbone
    network = prepared(backbone, _images(64, 96))
    assert network is not backbone
    for seed in range(3):
        torch.manual_seed(seed)
        images = torch.rand(1 + seed, 3, 64, 32 * (1 + seed))
        for found, expected in zip(network(images), backbone(images), strict=True):
            assert movement(found, expected) < 1e-5


@pytest.mark.parametrize("wrong", ["nan", "far", "fewer", "fails"])
@torch.inference_mode()
def test_a_backbone_that_cannot_be_prepared_is_taken_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    backbone = open_model(path).backbone

    def network(images: Tensor) -> list[Tensor]:
        levels = backbone(images)
        if wrong == "fails":
            raise RuntimeError(wrong)
        if wrong == "fewer":
            return levels[1:]
        return [*levels[:-1], levels[-1] * (torch.nan if wrong == "nan" else 1.01)]

    monkeypatch.setattr(executions, "prepare", lambda _: network)
    assert prepared(backbone, _images(64, 96)) is backbone


def test_movement_is_relative_to_what_was_expected() -> None:
    expected = torch.tensor([3.0, -4.0])
    assert movement(expected * 1.1, expected) == pytest.approx(0.1, rel=1e-5)
    assert movement(expected, expected) == 0
    assert not movement(expected * float("nan"), expected) < np.inf
    assert movement(torch.zeros(3), expected) == np.inf


def test_a_first_image_that_holds_no_numbers_refuses_no_head(path: Path) -> None:
    images = make_images(33, 47)
    model = open_model(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(torch.full_like(images, math.nan))
        found = model(images)
    expected = open_model(path)(images)
    assert all(torch.equal(found[name], expected[name]) for name in HEADS)


class _Reader(Head):
    """Counts on levels at their strides."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.wanted_features = backbone.info
        self.read = nn.ModuleList(nn.Conv2d(c, 2, 1) for c in backbone.info.channels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Levels side by side, at the finest stride."""
        levels = [read(level) for read, level in zip(self.read, features, strict=True)]
        larger = [
            level.repeat_interleave(2**i, 2).repeat_interleave(2**i, 3)
            for i, level in enumerate(levels)
        ]
        return torch.cat(larger, dim=1)


@pytest.mark.parametrize("engine", ["plain", "torch", "openvino"])
def test_heads_are_given_levels_of_a_plain_vit_at_their_strides(engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    backbone = build(describe("test_vit")).freeze()
    head, images = _Reader(backbone).eval(), _images(64, 96)
    runner = Runner(backbone, Execution(engine))
    with torch.no_grad():
        sizes = [(64 // stride, 96 // stride) for stride in backbone.info.strides]
        levels = zip(backbone(images), sizes, strict=True)
        expected = head([F.interpolate(level, size, mode="bilinear") for level, size in levels])
        for _ in range(3):
            found = runner(images, {"reader": head})["reader"]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
