"""Short forms of `benchmarks/reliability`, and proof that they notice broken guards."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks.reliability import fuzz, kills, memory, processes, toy
from medusa_core.errors import StoreError
from medusa_core.store import commit, container, transaction
from medusa_core.store.check import check
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout


def test_kills(tmp_path: Path) -> None:
    figures = kills.campaign(tmp_path, 20)
    assert figures["kills"] == 20


def test_processes(tmp_path: Path) -> None:
    figures = processes.campaign(tmp_path, writers=4, changes=8, readers=1)
    assert figures["commits"] > 5
    assert figures["reads"] > 0


def test_without_the_lock_it_would_be_noticed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(transaction, "_holding", lambda *_: contextlib.nullcontext())
    with pytest.raises(AssertionError):
        processes.campaign(tmp_path, writers=6, changes=20, readers=1)


def test_the_lock_survives_a_killed_owner(tmp_path: Path, monkeypatch) -> None:
    """The operating system takes it back: nobody waits for who is gone."""
    chance = random.Random(0)
    toy.create(tmp_path / "model", {})
    monkeypatch.setattr(transaction, "LOCK_SECONDS", 5.0)
    change = toy.Change("add", "head_a", "", toy.weights(chance))

    def hold(path: Path) -> None:
        with transaction.locked(Layout(path)):
            (tmp_path / "held").touch()
            while True:
                pass

    forever = type("Forever", (), {"run": staticmethod(hold)})()
    _, cut_off = kills.run_and_kill(forever, tmp_path / "model", 0.5)
    assert cut_off
    assert (tmp_path / "held").exists()
    change.run(tmp_path / "model")
    assert toy.contents(tmp_path / "model") == {"head_a": change.data}


def test_mutated_files(tmp_path: Path) -> None:
    figures = fuzz.campaign(tmp_path, files=600, pictures=150)
    for name, kind in figures.items():
        assert kind["refused"] > 0, name
        assert kind["grown_mb"] < 100, name


def test_mutated_models_that_are_opened(tmp_path: Path) -> None:
    model, file = fuzz.real_model(tmp_path)
    for attack in (partial(fuzz.heads_on_a_model, model, file), partial(fuzz.models, model)):
        assert attack(30, random.Random(1))["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("case", memory.CASES)
def test_memory_of_a_hostile_input(case: str) -> None:
    """In a process of its own, which fails where a bound of `SECURITY.md` does not hold."""
    memory.main(["--cases", case])


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors by /proc")
def test_more_heads_than_descriptors(tmp_path: Path) -> None:
    """Said, and what was opened is closed; verification needs one descriptor at a time."""
    import resource

    heads = {f"head_{number}": toy.weights(random.Random(number), 4) for number in range(40)}
    toy.create(tmp_path / "model", heads)
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = set(map(int, os.listdir("/proc/self/fd")))
    free = (number for number in itertools.count() if number not in before)
    limit = next(itertools.islice(free, 20, None))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, usual[1]))
        with pytest.raises(StoreError, match="Too many open files") as caught:
            ModelFolder.open(tmp_path / "model")
        assert "ulimit -n" in caught.value.hint
        assert set(map(int, os.listdir("/proc/self/fd"))) == before
        assert check(tmp_path / "model") == []
        commit.remove_heads(tmp_path / "model", ["head_3"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert len(toy.contents(tmp_path / "model")) == 39


def test_limits_of_a_container() -> None:
    """Refused by their header, before anything of the size they claim is made."""
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    many = container.join({f"t{i}": entry for i in range(container.MAX_TENSORS + 2)}, b"")
    long = (container.MAX_HEADER + 1).to_bytes(8, "little") + b" " * (container.MAX_HEADER + 1)
    huge = (2**63).to_bytes(8, "little") + b"{}"
    for data, why in ((many, "tensors, more than"), (long, "bytes, more than"), (huge, "ends")):
        with pytest.raises(commit.StoreError, match=why):
            container.split(data, "it")
