"""Trainings by several processes: each once, after what it needs, failures in nobody's way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.jobs import Job, work_off
from benchmarks.protocol import Setting, Workbench
from benchmarks.trainings import Coupled, Decoder, Features, Network, Training

SETTING = Setting("noted", "rooms", "resnet18", None, 1, 1, 1)
SOURCE = Network(0, ("depth",), "plain", 5)
TASKS = ("normals", "edges")
DECODERS = [Decoder(SOURCE, task, "medusa", 3) for task in TASKS]
COUPLED = Coupled(Network(0), "mtinet", TASKS, 2, frozen=False)
FEATURES = Features(SOURCE, TASKS)


@dataclass(frozen=True)
class Noting(Workbench):
    """Notes what is done instead of training; `broken` cannot be done."""

    broken: Training | None = None

    def make(self, training: Training, scored: bool = True) -> None:
        if training == self.broken:
            raise ValueError("no")
        with (self.folder / "log").open("a") as file:
            file.write(json.dumps([repr(training), scored]) + "\n")

    def model(self, network: Network) -> Path:
        with (self.folder / "models").open("a") as file:
            file.write(repr(network) + "\n")
        return self.folder

    def done(self, training: Training, scored: bool = True) -> bool:
        return (self.folder / "done").exists()

    def log(self) -> list[tuple[str, bool]]:
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, scored) for name, scored in map(json.loads, lines)]


def _jobs(bench: Noting) -> list[Job]:
    wanted: list[Any] = [*DECODERS, FEATURES, COUPLED]
    return [Job(bench, one) for one in [*wanted, *DECODERS]]


@pytest.mark.parametrize("workers", [1, 3])
def test_everything_is_done_once_after_what_it_needs(tmp_path: Path, workers: int) -> None:
    bench = Noting(SETTING, tmp_path, tmp_path)
    work_off(_jobs(bench), workers)
    names = [name for name, _ in bench.log()]
    every = [SOURCE, Network(0), FEATURES, COUPLED, *DECODERS]
    assert sorted(names) == sorted(map(repr, every))
    assert names.index(repr(SOURCE)) < names.index(repr(FEATURES))
    assert names.index(repr(Network(0))) < names.index(repr(COUPLED))
    for decoder in DECODERS:
        assert names.index(repr(SOURCE)) < names.index(repr(decoder))
        assert workers == 1 or names.index(repr(FEATURES)) < names.index(repr(decoder))


def test_features_of_one_network_do_not_wait_for_each_other(tmp_path: Path) -> None:
    bench = Noting(SETTING, tmp_path, tmp_path)
    more = Features(SOURCE, ("depth",))
    work_off([*_jobs(bench), Job(bench, more)], 2)
    names = [name for name, _ in bench.log()]
    assert {repr(FEATURES), repr(more), *map(repr, DECODERS)} <= set(names)


def test_networks_that_others_need_are_there_before_them(tmp_path: Path) -> None:
    """Made by one job, however many need them, and even where their results are kept."""
    bench = Noting(SETTING, tmp_path, tmp_path)
    work_off(_jobs(bench), 3)
    made = (tmp_path / "models").read_text().splitlines()
    assert sorted(made) == sorted(map(repr, [SOURCE, Network(0)]))


def test_a_network_is_scored_if_anybody_wants_it(tmp_path: Path) -> None:
    bench = Noting(SETTING, tmp_path, tmp_path)
    work_off([*_jobs(bench), Job(bench, SOURCE)], 1)
    assert dict(bench.log())[repr(SOURCE)] is True
    assert dict(bench.log())[repr(Network(0))] is False


def test_what_fails_holds_up_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    bench = Noting(SETTING, tmp_path, tmp_path, broken=SOURCE)
    with pytest.raises(RuntimeError, match="1 of the trainings failed.*depth.*no"):
        work_off(_jobs(bench), 2)
    assert {name for name, _ in bench.log()} == {repr(Network(0)), repr(COUPLED)}


def test_what_is_done_needs_nothing(tmp_path: Path) -> None:
    bench = Noting(SETTING, tmp_path, tmp_path)
    (tmp_path / "done").touch()
    work_off(_jobs(bench), 1)
    assert bench.log() == []
