"""Chance that leaves no trace, and devices."""

from __future__ import annotations

import pytest
import torch

from medusa_core.model.devices import seeded


def test_chance_comes_from_the_seed_and_leaves_no_trace() -> None:
    state = torch.get_rng_state()
    drawn = []
    for seed in (3, 3, 4):
        with seeded("cpu", seed):
            drawn.append(torch.rand(5))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_cards_that_are_not_used_are_left_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[object] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: woken.append(device))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    with seeded("cpu", 0):
        pass
    assert woken == []
    with seeded("cuda:2", 0):
        pass
    assert woken == [torch.device("cuda:2")]
