"""Coupled decoders are trained and scored as the product trains and scores heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.peers.blocks import PerTask
from benchmarks.peers.configs import PeerConfig
from benchmarks.peers.coupled import CoupledDecoder, MTINet, PADNet
from benchmarks.peers.heads import PlainHead
from benchmarks.peers.host import peers_host
from benchmarks.peers.training import CoupledModel, score_coupled, train_coupled
from medusa_core.api import Dataset, FeatureInfo, LabelSchema
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.backbones.unfold import has_folded_norms
from medusa_core.engine.bootstrap import paired_difference
from medusa_core.engine.datasets import DataRef, load_dataset, shorten
from medusa_core.engine.outcome import TrainSettings
from medusa_core.errors import DataError, LabelsError, UsageError
from medusa_core.model.execution import Execution
from medusa_core.model.opening import open_model, restore_backbone
from medusa_core.progress import SilentProgress
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.evaluate import evaluate
from medusa_core.workflows.init import init
from medusa_core.workflows.train_backbone import train_backbone

pytestmark = pytest.mark.slow  # a minute, together

TASKS = ("depth", "semseg")
TINY_BACKBONE = "test_resnet"
SIZE = (64, 96)
SETTINGS = TrainSettings(steps=4, batch=4, lr=1e-3, seed=3, evaluations=2)


class SideBySide(CoupledDecoder):
    """Plain heads behind the interface of coupled decoders: what joint training must agree with."""

    def __init__(self, features: FeatureInfo, out_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.heads = PerTask(
            {name: PlainHead(features, c, PeerConfig()) for name, c in out_channels.items()}
        )
        self.names = tuple(out_channels)

    def forward(self, features):
        return {name: self.heads.of(name)(features) for name in self.names}

    def training_outputs(self, features):
        return {name: self.heads.of(name).training_outputs(features) for name in self.names}


class Interrupt(SilentProgress):
    """Presses Ctrl-C once a step is done."""

    def __init__(self, step: int) -> None:
        self.step, self.done = step, 0

    def advance(self, n: int = 1, **figures: float) -> None:
        self.done += n
        if self.done == self.step:
            raise KeyboardInterrupt


class Loud(SilentProgress):
    """Remembers what was started."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.labels.append(label)


def rooms(split: str = "train", limit: int = 12) -> Dataset:
    return shorten(load_dataset(peers_host(), DataRef("rooms"), split), limit)


def backbone_of(model: Path) -> Backbone:
    with ModelFolder.open(model) as folder:
        return restore_backbone(folder.manifest.backbone, folder.read_backbone())


@pytest.fixture
def train(tmp_path: Path, make_model: Callable[..., Path]) -> Callable[..., CoupledModel]:
    model = make_model(folder="start")

    def run(
        decoder: type[CoupledDecoder] = MTINet, folder: str = "coupled", **changes: Any
    ) -> CoupledModel:
        arguments: dict[str, Any] = {
            "size": SIZE,
            "settings": SETTINGS,
            "frozen": False,
            "host": peers_host(),
            "progress": SilentProgress(),
            "backbone": backbone_of(model),
            "tasks": TASKS,
            "dataset": rooms(),
            "folder": tmp_path / folder,
        }
        return train_coupled(decoder, **{**arguments, **changes})

    return run


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def folded(model: Path, folder: Path) -> Path:
    """A copy of a model folder whose BatchNorm is folded into weights that are not trivial."""
    weights = backbone_of(model).weights()
    for key in [key for key in weights if key.endswith("running_mean")]:
        weight = weights[key.replace("running_mean", "weight")]
        weight.copy_(torch.linspace(0.5, 1.5, len(weight)))
    save_file({k: t.contiguous() for k, t in weights.items()}, folder / "folded.safetensors")
    init(folder / "folded", backbone=TINY_BACKBONE, weights=folder / "folded.safetensors")
    return folder / "folded"


@pytest.mark.parametrize("fold", [False, True])
def test_uncoupled_heads_come_out_as_of_train_backbone(train, make_model, tmp_path, fold) -> None:
    """Same first weights, optimiser, schedule, views, selection, choice of weights, evaluation."""
    model, host = make_model(folder="product"), peers_host()
    if fold:
        model = folded(model, tmp_path)
    given = backbone_of(model)
    assert has_folded_norms(given) == fold
    train_backbone(
        model,
        tasks=TASKS,
        host=host,
        head="plain",
        steps=SETTINGS.steps,
        batch=SETTINGS.batch,
        lr=SETTINGS.lr,
        seed=SETTINGS.seed,
        size=SIZE,
        limit=12,
    )
    ours = train(SideBySide, backbone=given, settings=TrainSettings(4, 4, 1e-3, 3))
    theirs = open_model(model, host=host, execution=Execution("plain"))
    assert same(ours.backbone.weights(), theirs.backbone.weights())
    for name in TASKS:
        head: nn.Module = ours.decoder.get_submodule(f"heads.task_{name}")
        assert same(weights(head), weights(theirs.head_module(name))), name
        for figure, value in theirs.heads[name].metrics.items():
            assert ours.outcome.best[f"{name}.{figure}"] == value
    scored = score_coupled(ours, rooms("val", 4), SilentProgress())
    reported = evaluate(theirs, limit=4)
    for name in TASKS:
        assert scored[name].figures() == pytest.approx(
            reported["heads"][name]["metrics"], rel=0, abs=0, nan_ok=True
        )


@pytest.mark.parametrize("decoder", [PADNet, MTINet])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_backbone_stays_bit_for_bit(train, make_model, decoder, frozen) -> None:
    given = backbone_of(make_model(folder="given"))
    before = weights(given)
    trained = train(decoder, backbone=given, frozen=frozen)
    assert trained.gmacs > 0
    assert same(weights(given), before)  # in either case: it was copied
    assert same(weights(trained.backbone), before) == frozen
    with torch.random.fork_rng():
        torch.manual_seed(SETTINGS.seed)
        channels = {name: trained.tasks[name].out_channels for name in TASKS}
        start = decoder(given.info, channels).state_dict()
    moved = [
        key for key, tensor in trained.decoder.state_dict().items() if (tensor != start[key]).any()
    ]
    assert {key for key, _ in trained.decoder.named_parameters()} <= {
        *moved,
        *(key for key in start if key.endswith("bias") or "excite" in key),
    }
    for module in (trained.backbone, trained.decoder):
        assert not any(m.training for m in module.modules())
        assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_an_interrupted_training_goes_on_bit_for_bit(train, frozen) -> None:
    straight = train(folder="straight", frozen=frozen)
    with pytest.raises(KeyboardInterrupt):
        train(frozen=frozen, progress=Interrupt(3))
    torch.manual_seed(99)
    resumed = train(frozen=frozen)
    assert same(weights(resumed.decoder), weights(straight.decoder))
    assert same(weights(resumed.backbone), weights(straight.backbone))
    assert resumed.outcome.best == straight.outcome.best


def test_what_is_finished_is_not_trained_again(train) -> None:
    first, progress = train(), Loud()
    again = train(progress=progress)
    assert not any("Training" in label for label in progress.labels)
    assert same(weights(again.decoder), weights(first.decoder))
    assert same(weights(again.backbone), weights(first.backbone))
    assert again.outcome == first.outcome
    for change in ({"frozen": True}, {"tasks": TASKS[::-1]}, {"size": (64, 64)}):
        with pytest.raises(UsageError, match="other settings"):
            train(**change)
    with pytest.raises(UsageError, match="other settings"):
        train(PADNet)


def test_scores_of_two_networks_can_be_paired(train) -> None:
    data = rooms("val", 5)
    networks = [train(cls, folder=cls.__name__) for cls in (PADNet, MTINet)]
    one, other = (score_coupled(network, data, SilentProgress()) for network in networks)
    assert list(one) == list(other) == list(TASKS)
    assert len(one["depth"]) == len(other["depth"]) == 5
    difference, (low, high) = paired_difference(one["depth"], other["depth"], "rmse", draws=50)
    assert difference == pytest.approx(
        one["depth"].figures()["rmse"] - other["depth"].figures()["rmse"]
    )
    assert low <= high


def test_other_data_is_refused(train) -> None:
    network = train()
    other = rooms("val", 2)
    wrong = LabelSchema(names=("wall", "floor"))
    other.targets = {**other.targets, "semseg": type(other.targets["semseg"])(labels=wrong)}
    with pytest.raises(LabelsError, match="semseg"):
        score_coupled(network, other, SilentProgress())
    other.targets = {"semseg": other.targets["semseg"]}
    with pytest.raises(DataError, match="depth"):
        score_coupled(network, other, SilentProgress())
