"""Comparisons tell what is known so far, and never forget what was known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks import report
from benchmarks.comparison import Options
from benchmarks.jobs import Job
from benchmarks.protocol import Setting, Workbench
from benchmarks.trainings import Features, Network, Training

SETTING = Setting("marked", "folder:none", "resnet18", None, 1, 1, 1)


@dataclass(frozen=True)
class Marking(Workbench):
    """A training is done where a file has its seed and tasks in its name."""

    def make(self, training: Training, scored: bool = True) -> None:
        assert not isinstance(training, Features)
        self._mark(training).touch()

    def done(self, training: Training, scored: bool = True) -> bool:
        return self._mark(training).exists()

    def _mark(self, training: Training) -> Path:
        assert isinstance(training, Network)
        return self.folder / f"{'+'.join(training.tasks)}-{training.seed}"


def _jobs(folder: Path, task: str, seed: int) -> list[Job]:
    network = Network(seed, (task,))
    bench = Marking(SETTING, folder, folder)
    return [Job(bench, network), Job(bench, Features(network, (task,)))]


def _answer(folder: Path, only: str | None = None, seeds: Sequence[int] = (0, 1)) -> dict[str, Any]:
    options = Options(folder, folder, seeds, only, quick=False, device="cpu", workers=1)
    known = {"about depth": "depth", "about edges": "edges"}
    return options.answer(
        "some",
        known,
        lambda task, seed: _jobs(folder, task, seed),
        lambda task, seeds: {"task": task},
    )


def test_all_questions_are_answered(tmp_path: Path) -> None:
    record = _answer(tmp_path)
    assert record["answers"] == [
        {"name": "about depth", "seeds": [0, 1], "task": "depth"},
        {"name": "about edges", "seeds": [0, 1], "task": "edges"},
    ]
    assert record["unanswered"] == []


def test_one_is_trained_for_and_all_that_is_known_is_told(tmp_path: Path) -> None:
    (tmp_path / "depth-1").touch()
    record = _answer(tmp_path, only="edges")
    assert [(a["name"], a["seeds"]) for a in record["answers"]] == [
        ("about depth", [1]),
        ("about edges", [0, 1]),
    ]
    assert not (tmp_path / "depth-0").exists()


def test_no_seed_that_was_done_is_left_out(tmp_path: Path) -> None:
    _answer(tmp_path, only="edges", seeds=(0, 4))
    record = _answer(tmp_path, seeds=(0, 1))
    assert [(a["name"], a["seeds"]) for a in record["answers"]] == [
        ("about depth", [0, 1]),
        ("about edges", [0, 1, 4]),
    ]


def test_what_is_not_known_is_named(tmp_path: Path) -> None:
    record = _answer(tmp_path, only="edges")
    assert record["unanswered"] == ["about depth"]
    page = report.document("Title", "Preface", [], record)
    assert "Not trained yet: about depth." in page


def test_only_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="about depth; about edges"):
        _answer(tmp_path, only="parts")
    assert not list(tmp_path.iterdir())


def test_an_answer_is_never_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("benchmarks.comparison.RESULTS", tmp_path / "results")
    options = Options(tmp_path, tmp_path, (0,), None, quick=False, device="cpu", workers=1)
    whole = _answer(tmp_path)
    options.publish("some", whole, "whole")
    with pytest.raises(click.ClickException, match=r"about edges \(seed 0\), about edges \(seed 1"):
        options.publish("some", {**whole, "answers": whole["answers"][:1]}, "half")
    for mark in tmp_path.glob("*-1"):
        mark.unlink()
    with pytest.raises(click.ClickException, match=r"not: about depth \(seed 1\), about edges"):
        options.publish("some", _answer(tmp_path, seeds=(0,)), "one seed")
    assert (tmp_path / "results" / "some.md").read_text() == "whole"
    assert json.loads((tmp_path / "results" / "some.json").read_text()) == whole
    options.publish("some", whole, "again")
    assert (tmp_path / "results" / "some.md").read_text() == "again"


def test_quick_forms_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.comparison.RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    options = Options(tmp_path, tmp_path, (0,), None, quick=True, device="cpu", workers=1)
    options.publish("some", _answer(tmp_path), "page")
    assert not (tmp_path / "results").exists()
