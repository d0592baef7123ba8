"""Models that run heads from recordings, side by side or not, give the bits of each alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medusa_core.heads.base import Head
from medusa_core.heads.medusa import MedusaHead
from medusa_core.model import execution as execution_
from medusa_core.model import open_model, recording
from medusa_core.model.execution import Execution
from medusa_core.model.inference import prepare
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.model.recorded_calls import Network
from medusa_core.model.recording import Desk

from .conftest import HEADS


def _images(seed: int, height: int = 48, width: int = 64) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def wide(model: MedusaModel, path: Any, untrained_head: Any) -> MedusaModel:
    """Heads of one family, with levels of 16 channels and more."""
    for seed, name in enumerate(HEADS):
        head = untrained_head(path, name, settings={"width": 16}, seed=seed)
        model.add_head(name, head, replace=True)
    return model


def _groups(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """How many networks were asked for at once, and whether a recording said what they say."""
    asked: list[tuple[int, bool]] = []
    run = Desk.run_together

    def spy(desk: Desk, networks: Sequence[Network], join: Any) -> list[Tensor] | None:
        results = run(desk, networks, join)
        asked.append((len(networks), results is not None))
        return results

    monkeypatch.setattr(Desk, "run_together", spy)
    return asked


def _assert_stays(model: MedusaModel, expected: dict[str, Tensor]) -> None:
    """What a model says of the first image, for three more calls."""
    for _ in range(3):
        found = model(_images(0))
        assert all(torch.equal(found[name], expected[name]) for name in HEADS)


class _Liar(nn.Module):
    """Says of the first head what it does not say."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One of them is wrong by little."""
        first, *others = (head(features) for head in self.heads)
        return [first * (1 + 1e-6), *others]


def test_a_model_gives_the_same_bits_from_the_first_image_to_the_last(
    model: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = _groups(monkeypatch)
    first = model(_images(0))
    assert not ran
    for seed in (1, 0):
        later = model(_images(seed))
    assert ran == [(1, True)] * 2 * len(HEADS)
    assert all(torch.equal(later[name], first[name]) for name in HEADS)
    assert torch.equal(model(_images(0), HEADS[:1])[HEADS[0]], first[HEADS[0]])


@pytest.mark.parametrize("execution", [Execution("plain"), Execution(compiled=True)], ids=str)
def test_other_ways_of_running_are_not_recorded(
    path: Any, monkeypatch: pytest.MonkeyPatch, execution: Execution
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: network)
    model = open_model(path, execution=execution)
    ran = _groups(monkeypatch)
    for seed in range(3):
        model(_images(seed))
    assert not ran


def test_a_head_that_is_forgotten_while_it_runs_sees_its_own_image(
    model: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {seed: model(_images(seed))["depth"] for seed in (0, 1, 1)}
    run, runner = Desk.run_together, model._runner

    def forgetful(desk: Desk, *given: Any) -> list[Tensor] | None:
        monkeypatch.setattr(Desk, "run_together", run)
        runner.forget([])
        other = threading.Thread(target=lambda: [model(_images(1)) for _ in range(3)])
        other.start()
        other.join()
        return run(desk, *given)

    monkeypatch.setattr(Desk, "run_together", forgetful)
    assert torch.equal(model(_images(0))["depth"], expected[0])


def test_only_heads_that_say_so_are_recorded(
    model: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.head_module("depth").recordable = False
    ran = _groups(monkeypatch)
    for seed in range(3):
        model(_images(seed))
    assert ran == [(1, True)] * 2 * (len(HEADS) - 1)


@pytest.mark.parametrize("size", [(48, 64), (64, 64), (96, 128)], ids=str)
def test_any_selection_of_heads_in_any_order_gives_each_the_same_bits(
    wide: MedusaModel, path: Any, size: tuple[int, int]
) -> None:
    image, fresh = _images(0, *size), open_model(path)
    expected = {name: fresh(image, [name])[name] for name in HEADS}
    for names in [order for n in (1, 2, 3) for order in permutations(HEADS, n)]:
        for seed in (1, 0):
            found = wide(_images(seed, *size), names)
        assert list(found) == list(names)
        assert all(torch.equal(found[name], expected[name]) for name in names)


def test_heads_of_one_family_are_run_side_by_side(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = _groups(monkeypatch)
    for seed in range(3):
        wide(_images(seed))
    assert together == [(3, True)] * 2
    wide.head_module("depth").family = "another"
    for _ in range(2):
        together.clear()
        wide(_images(0))
    assert together == [(2, True), (1, True)]


def test_a_network_that_says_something_else_is_not_run_in_place_of_heads(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def side_by_side(heads: Sequence[Head]) -> nn.Module:
        return _Liar(heads)

    expected = wide(_images(0))
    monkeypatch.setattr(MedusaHead, "side_by_side", side_by_side)
    together = _groups(monkeypatch)
    _assert_stays(wide, expected)
    assert together == [(3, False), *[(1, True)] * 3] * 3


@pytest.mark.parametrize(
    "made", [None, 7, "text", [], nn.Module, torch.relu], ids=lambda value: type(value).__name__
)
def test_what_is_no_network_is_not_run(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch, made: object
) -> None:
    expected = wide(_images(0))
    monkeypatch.setattr(MedusaHead, "side_by_side", lambda heads: made)
    _assert_stays(wide, expected)


class _Unhashable:
    """Cannot be compared."""

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "family", [[1, 2], {"a": 1}, (1, [2]), _Unhashable()], ids=lambda value: type(value).__name__
)
def test_heads_of_an_odd_family_are_run_alone(wide: MedusaModel, family: object) -> None:
    expected = wide(_images(0))
    for name in HEADS:
        wide.head_module(name).family = family
    _assert_stays(wide, expected)


def test_heads_that_cannot_be_copied_are_run_alone(wide: MedusaModel) -> None:
    expected = wide(_images(0))
    wide.head_module("depth").lock = threading.Lock()  # type: ignore[assignment]
    _assert_stays(wide, expected)


def test_groups_that_come_once_are_not_made(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in HEADS:
        for _ in range(2):
            wide(_images(0), [name])
    together = _groups(monkeypatch)
    for _ in range(2):
        wide(_images(0))
    assert together == [(3, False), *[(1, True)] * 3, (3, True)]


def test_another_number_of_threads_is_recorded_anew(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, before = _groups(monkeypatch), torch.get_num_threads()
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            for _ in range(2):
                wide(_images(0))
    finally:
        torch.set_num_threads(before)
    assert together == [(3, True)] * 4


def test_other_threads_compute_while_a_network_is_prepared(wide: MedusaModel) -> None:
    """`torch.fx` hears the modules of all threads."""
    bystander, failed = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), []
    x, done = torch.ones(2, 3), threading.Event()
    expected = bystander(x)

    def compute() -> None:
        while not done.is_set():
            try:
                assert torch.equal(bystander(x), expected)
            except Exception as err:  # noqa: BLE001 - any
                failed.append(err)

    others = [threading.Thread(target=compute) for _ in range(2)]
    for thread in others:
        thread.start()
    for _ in range(3):
        execution_.joined([wide.head_module(name) for name in HEADS], Execution())
    done.set()
    for thread in others:
        thread.join()
    assert not failed


def test_networks_are_prepared_by_several_threads_at_once(wide: MedusaModel) -> None:
    heads = [wide.head_module(name) for name in HEADS]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: prepare(heads[0]), range(8)))
    features = wide._runner.backbone(_images(0))
    with torch.no_grad():
        expected = prepare(heads[0])(list(features))
        assert all(torch.equal(network(list(features)), expected) for network in made)


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError])
def test_heads_whose_joining_fails_are_run_alone(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def side_by_side(heads: Sequence[Head]) -> nn.Module:
        raise error

    expected = wide(_images(0))
    monkeypatch.setattr(MedusaHead, "side_by_side", side_by_side)
    _assert_stays(wide, expected)


def test_more_heads_than_are_run_side_by_side_are_run_in_groups(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_, "MOST_JOINED", 2)
    together = _groups(monkeypatch)
    expected = wide(_images(0))
    for _ in range(2):
        found = wide(_images(0))
        assert all(torch.equal(found[name], expected[name]) for name in HEADS)
    assert together == [(2, True), (1, True)] * 2


def test_large_features_are_read_by_one_head_after_the_other(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "SMALL", 1000)
    together = _groups(monkeypatch)
    for _ in range(2):
        wide(_images(0))
    assert together == [(3, False), *[(1, True)] * 3]


def test_so_many_groups_are_recorded_and_no_more(
    wide: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "GROUPS", 1)
    together = _groups(monkeypatch)
    for names in (HEADS, HEADS, HEADS[:2], HEADS[:2], HEADS):
        wide(_images(0), names)
    assert together == [(3, True), *[(2, False), (1, True), (1, True)] * 2, (3, True)]


def test_a_head_that_is_replaced_is_recorded_anew(
    model: MedusaModel, path: Any, untrained_head: Any
) -> None:
    for seed in range(3):
        before = model(_images(seed))["depth"]
    model.add_head("depth", untrained_head(path, "depth", seed=7), replace=True)
    after = [model(_images(2))["depth"] for _ in range(3)]
    assert not torch.equal(before, after[0])
    assert all(torch.equal(later, after[0]) for later in after)


def test_recordings_are_not_used_where_operations_choose_their_format(
    model: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = _groups(monkeypatch)
    expected = [model(_images(seed))["depth"] for seed in range(3)]
    ran.clear()
    with torch.autocast("cpu", torch.bfloat16):
        model(_images(0))
    assert not ran
    assert torch.equal(model(_images(2))["depth"], expected[2])
