"""`tasks` and `datasets`; `plugins` has a file of its own."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from medusa_core.api import DatasetSpec, MetricRef, OutputSpec, TargetSpec, TaskSpec, hookimpl


class Plugin:
    """A task computed from the image, and a data set."""

    @hookimpl
    def medusa_register_tasks(self):
        return [
            TaskSpec(
                name="sharpness",
                title="Sharpness",
                implementation="nowhere:Task",
                output=OutputSpec(channels=1),
                target=TargetSpec(source="image"),
                metrics=(MetricRef(name="mae", unit="dB", higher_is_better=False, primary=True),),
            )
        ]

    @hookimpl
    def medusa_register_datasets(self):
        return [
            DatasetSpec(name="photos", title="My photos", implementation="nowhere:Data"),
        ]


def broken():
    raise ImportError("no\x1b[2J luck")


@pytest.fixture
def installed(monkeypatch):
    """One good plugin and one broken one, in the place of what is installed."""
    loads = []

    def point(name, load):
        def counted():
            loads.append(name)
            return load()

        dist = SimpleNamespace(name=name, version="0.2", requires=[])
        return SimpleNamespace(name=name, value=f"{name}:x", dist=dist, load=counted)

    points = [point("medusa-good", Plugin), point("medusa-bad", broken)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    return loads


def test_tasks(medusa, installed):
    code, out, err = medusa("tasks")
    assert code == 0
    assert err.startswith("Warning: Plugin medusa-bad 0.2 is broken: ImportError: no[2J luck.")
    assert err.count("\n") == 1
    header, row = out.splitlines()
    assert header.split()[:2] == ["task", "title"]
    for text in ("sharpness", "computed from the image", "mae (dB) ↓", "medusa-good 0.2"):
        assert text in row
    (task,) = medusa.json("tasks")["tasks"]
    assert task["name"] == "sharpness"
    assert task["target"] == {"name": "sharpness", "source": "image", "unit": None}
    assert task["primary_metric"] == "mae"
    assert task["provider"] == {
        "distribution": "medusa-good",
        "plugin": "medusa-good",
        "version": "0.2",
    }


def test_datasets(medusa, installed):
    code, out, _ = medusa("datasets")
    assert code == 0
    assert "photos:PATH" in out
    (dataset,) = medusa.json("datasets")["datasets"]
    assert (dataset["name"], dataset["location"]) == ("photos", "required")
    assert "implementation" not in dataset


@pytest.mark.parametrize("command", [("tasks",), ("datasets",), ("plugins", "list")])
def test_nothing_installed_is_said_and_no_error(medusa, monkeypatch, command):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    code, out, err = medusa(*command)
    assert (code, err) == (0, "")
    assert "No " in out
    assert "found" in out
    assert medusa.json(*command)[command[0]] == []
