"""A recorded network is the network, or it is not used.

On a CPU a stand-in for PyTorch's recorder shows what is done with right and wrong recordings; on
a CUDA device the real one is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medusa_core.engine import cuda_graphs
from medusa_core.engine.cuda_graphs import Outputs, record
from medusa_core.engine.joint_training import JointTraining
from medusa_core.errors import MedusaWarning

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _outputs(device: str = "cpu") -> Outputs:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    net.to(device)
    return Outputs([net], lambda x: {"a": [(1.0, net(x)), (0.5, 2 * net(x))]})


def _batch(device: str = "cpu", seed: int = 1) -> Tensor:
    return torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(seed)).to(device)


def _recorder(wrong: float) -> Callable[..., nn.Module]:
    """Warms up as PyTorch's recorder does, then runs the network, off by so much."""

    def make(network: nn.Module, inputs: Any, allow_unused_input: bool) -> nn.Module:
        plain = network.forward
        for _ in range(3):
            torch.autograd.grad(sum(x.sum() for x in plain(*inputs)), list(network.parameters()))
        network.forward = lambda *given: tuple(x * (1 + wrong) for x in plain(*given))  # type: ignore[method-assign]
        return network

    return make


def _raises(*given: Any, **named: Any) -> None:
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("recorder", "taken"), [(_recorder(0), True), (_recorder(0.2), False), (_raises, False)]
)
def test_right_recordings_are_used_and_no_others(
    monkeypatch: pytest.MonkeyPatch, recorder: Any, taken: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder)
    outputs, batch = _outputs(), _batch()
    before = {name: value.clone() for name, value in outputs.state_dict().items()}
    assert record(outputs, [batch]) is taken
    assert ("forward" in outputs.__dict__) is taken
    for name, value in outputs.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in outputs.parameters())
    (first, second), (one, half) = zip(*outputs.weighted([batch])["a"], strict=True)
    assert (first, second) == (1.0, 0.5)
    assert torch.allclose(half, 2 * one)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_recording(bad: float) -> None:
    one = torch.ones(3)
    assert cuda_graphs._movement([one], [one]) == 0
    assert not cuda_graphs._movement([one * bad], [one]) <= cuda_graphs.LIMIT
    assert not cuda_graphs._movement([one, one], [one]) <= cuda_graphs.LIMIT


def test_nothing_is_recorded_unless_asked(
    make_joint: Callable[..., JointTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", _raises)
    training = make_joint()
    training._step()
    assert "forward" not in training._outputs.__dict__


def test_a_recorded_training_is_the_plain_one(
    make_joint: Callable[..., JointTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a recorder that changes nothing, nothing changes: no statistic, no random number."""
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", _recorder(0))
    trained = []
    for recorded in (False, True):
        training = make_joint(f"recorded-{recorded}")
        training._to_record = recorded
        for _ in range(4):
            training._step()
        assert training._to_record is False
        trained.append(training.module.state_dict())
    for name, value in trained[0].items():
        assert torch.equal(value, trained[1][name]), name


def test_who_asked_is_told_that_nothing_is_recorded(
    make_joint: Callable[..., JointTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", _raises)
    training = make_joint()
    training._to_record = True
    with pytest.warns(MedusaWarning, match="--cuda-graphs: these networks cannot be recorded"):
        training._step()


@needs_cuda
def test_recorded_steps_go_where_plain_steps_go(make_joint: Callable[..., JointTraining]) -> None:
    """Both wander off by rounding, no further than plain ones do from each other."""
    trained = []
    for recorded in (False, False, True):
        training = make_joint(f"cuda-{len(trained)}", device="cuda")
        training._to_record = recorded
        training.settings = replace(training.settings, lr=1e-4)
        for _ in range(5):
            training._step()
        assert ("forward" in training._outputs.__dict__) is recorded
        trained.append({k: v.double().cpu() for k, v in training.module.state_dict().items()})
    plain, again, found = trained
    for name, value in found.items():
        slack = 1e-3 + 10 * (plain[name] - again[name]).abs().max()
        assert (value - plain[name]).abs().max() <= slack, name


@needs_cuda
def test_real_recordings_follow_their_inputs() -> None:
    outputs, plain = _outputs("cuda"), _outputs("cuda")
    assert record(outputs, [_batch("cuda")])
    for seed in range(4):
        batch = _batch("cuda", seed)
        gradients = []
        for network in (outputs, plain):
            found = network.weighted([batch])["a"]
            loss = sum((weight * raw.square()).mean() for weight, raw in found)
            gradients.append(torch.autograd.grad(loss, list(network.parameters())))  # type: ignore[arg-type]
        for one, other in zip(*gradients, strict=True):
            assert torch.allclose(one, other, rtol=1e-2, atol=1e-4)
