"""The cost table counts what the product builds, and notices a network that is not its parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from benchmarks import costs, report
from benchmarks.peers.host import peers_host
from medusa_core.api import LabelSchema
from medusa_core.backbones.timm_backbone import Backbone, build, describe
from medusa_core.model.assembly import complete_head_ref, make_head, make_task
from medusa_core.model.costs import head_gmacs, parameters


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build(describe("test_resnet")).freeze()


@pytest.mark.parametrize("name", costs.OUTPUTS)
def test_the_medusa_row_is_what_add_task_builds(backbone: Backbone, name: str) -> None:
    """The task's own architecture and settings, not defaults of the benchmark's."""
    host = peers_host()
    spec = host.tasks.get(name)
    labels = LabelSchema(names=tuple(map(str, range(costs.OUTPUTS[name]))))
    channels = make_task(host, spec, labels if spec.has_labels else None).out_channels
    theirs = make_head(host, complete_head_ref(host, spec, None, {}), backbone.info, channels)
    ours = costs.head_of(host, None, backbone.info, name)
    assert type(ours) is type(theirs)
    assert parameters(ours) == parameters(theirs)
    assert head_gmacs(ours, backbone.info) == head_gmacs(theirs, backbone.info)


class _Leaky(costs.Independent):
    """Works more for two heads than each of them does alone."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.extra = nn.Conv2d(1, 1, 1)

    def forward(self, features):
        self.extra(features[0][:, :1])
        return super().forward(features)


def test_a_network_that_is_more_than_its_parts_is_noticed(backbone: Backbone) -> None:
    host = peers_host()
    heads = {n: costs.head_of(host, "linear", backbone.info, n) for n in ("depth", "normals")}
    assert costs.cost_of(backbone, costs.Independent(heads))["adds_up"]
    assert not costs.cost_of(backbone, _Leaky(heads))["adds_up"]


def test_counting_changes_nothing(backbone: Backbone) -> None:
    decoder = costs.decoder_of(peers_host(), "MTI-Net", backbone.info, ["depth", "normals"])
    before = {key: tensor.clone() for key, tensor in decoder.state_dict().items()}
    cost = costs.cost_of(backbone, decoder)
    assert cost == costs.cost_of(backbone, decoder)
    assert cost["gmacs"] < cost["gmacs_in_training"]
    assert all(torch.equal(tensor, before[key]) for key, tensor in decoder.state_dict().items())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(costs, "BACKBONE", "test_resnet")
    monkeypatch.setattr(costs, "OUTPUTS", {"semseg": 4, "depth": 1})
    monkeypatch.setattr(costs, "TIMED_SIZE", (32, 32))
    monkeypatch.setattr(report, "RESULTS", tmp_path)


@pytest.mark.usefixtures("small")
def test_the_quick_form_records_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(costs, "OUTPUTS", {"depth": 1})
    monkeypatch.setattr(costs, "REFERENCE", {})  # of methods that need two tasks
    done = CliRunner().invoke(costs.main, ["--quick"])
    assert done.exit_code == 0, done.output
    assert "4 of 4 uncoupled networks" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_command_writes_what_it_shows(tmp_path: Path) -> None:
    done = CliRunner().invoke(costs.main, ["--rounds", "2"])
    assert done.exit_code == 0, done.output
    assert "8 of 8 uncoupled networks" in done.output
    assert "| PAD-Net | – |" in done.output
    result = json.loads((tmp_path / "costs.json").read_text())
    assert (tmp_path / "costs.md").read_text() in done.output
    rows = {(row["method"], row["tasks"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"]) == 2 * 5 + 1 * 2
    assert all(row["lowest"] <= row["time"] <= row["highest"] for row in rows.values())
    base = result["backbone"]
    for method in costs.UNCOUPLED:
        marginal = [rows[method, n]["params"] for n in (1, 2)]
        assert base["params"] < marginal[0] < marginal[1]
    single = rows[costs.SINGLE, 2]
    shared = rows["shared backbone + plain heads", 2]
    assert single["params"] == shared["params"] + base["params"]
    assert single["gmacs"] == pytest.approx(shared["gmacs"] + base["gmacs"])
