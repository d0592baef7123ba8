"""`medusa estimate`: deterministic, adds nothing, and sees no more than it says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

import medusa_core
from medusa_core.cli import main
from medusa_core.errors import DataError, UnknownNameError
from medusa_core.workflows import estimate as workflow

QUICK = {
    "settings": {"width": 4, "fused_width": 8},
    "steps": 40,
    "batch": 2,
    "limit": 40,
    "size": (64, 64),
}
ROOMS = ["rooms:64x64"]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "IMAGES", 8)
    monkeypatch.setattr(workflow, "STEPS", 8)


def tree(path: Path) -> dict[str, str]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_an_estimate_is_repeated_and_leaves_the_model_alone(make_model):
    model = make_model("depth")
    before = tree(model)
    first, again = (
        medusa_core.estimate("depth", model=model, data=ROOMS, **QUICK) for _ in range(2)
    )
    assert tree(model) == before
    for result in (first, again):
        del result["seconds"]
    assert first == again
    assert first["low"] < first["estimate"] < first["high"]
    assert [run["images"] for run in first["based_on"]["trainings"]] == [2, 8]
    assert [run["steps"] for run in first["based_on"]["trainings"]] == [2, 8]
    assert first["steps"] == 40
    assert json.loads(json.dumps(first)) == first


def test_only_a_few_samples_are_read(make_model, monkeypatch):
    from medusa_tasks.datasets.rooms.dataset import Rooms

    loaded, load = set(), Rooms.load
    monkeypatch.setattr(
        Rooms, "load", lambda self, index, *rest: loaded.add(index) or load(self, index, *rest)
    )
    done = medusa_core.estimate("edges", model=make_model(), data=ROOMS, **QUICK)
    assert len(loaded) == 8 + done["based_on"]["selection_images"]


@pytest.mark.filterwarnings("ignore:rmse cannot be measured")
def test_a_score_that_cannot_be_had(make_model, monkeypatch):
    model, figures = make_model(), {"rmse": float("nan")}
    monkeypatch.setattr("medusa_core.engine.scores.Scores.figures", lambda *_: figures)
    with pytest.raises(DataError, match="rmse of depth cannot be measured"):
        medusa_core.estimate("depth", model=model, data=ROOMS, **QUICK)
    figures["rmse"] = -1.0
    with pytest.raises(DataError, match="only errors and shares"):
        medusa_core.estimate("depth", model=model, data=ROOMS, **QUICK)
    with pytest.raises(UnknownNameError, match="depth"):
        medusa_core.estimate("dept", model=model, data=ROOMS, **QUICK)


def test_the_command_says_what_it_is_based_on(make_model, capsys):
    line = ["estimate", "normals", "-m", str(make_model()), "--data", ROOMS[0], "--limit", "40"]
    line += ["--size", "64x64", "--steps", "40", "--batch", "2", "--set", "head.width=4"]
    assert main(["--quiet", *line]) == 0
    said = capsys.readouterr().out
    for text in (
        "mean_angle",
        "80%",
        "two short trainings",
        "8 images, 8 steps",
        f"add-task normals -m {line[3]} --data {ROOMS[0]}",
    ):
        assert text in said
    assert main(["--quiet", *line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "normals"


@pytest.mark.parametrize("option", [{"views": 2}, {"resume": True}, {"patience": 3}])
def test_what_short_trainings_do_not_take_is_refused(make_model, option):
    with pytest.raises(UnknownNameError, match=f"option of estimate.* '{next(iter(option))}'"):
        medusa_core.estimate("depth", model=make_model("depth"), data=ROOMS, **QUICK, **option)


def test_epochs_are_of_the_images_that_have_the_target(make_model, monkeypatch, tmp_path):
    from medusa_tasks.datasets.rooms.dataset import Rooms

    model, load = make_model(), Rooms.load
    options = {**QUICK, "steps": None, "epochs": 5}
    whole = medusa_core.estimate("depth", model=model, data=ROOMS, **options)

    def sparse(self, index, targets=None):
        sample = load(self, index, targets)
        return replace(sample, targets={}) if index % 7 < 3 else sample

    monkeypatch.setattr(Rooms, "load", sparse)
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "other"))
    found = medusa_core.estimate("depth", model=model, data=ROOMS, **options)
    assert found["images"] < whole["images"]
    for result in (whole, found):
        assert result["steps"] == round(5 * result["images"] / QUICK["batch"])
