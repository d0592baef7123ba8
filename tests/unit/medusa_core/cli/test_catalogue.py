"""`tasks`, `datasets` and `plugins list`."""

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


def test_plugins_shows_all_with_reasons(medusa, installed):
    code, out, err = medusa("plugins", "list")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    bad, good = out.splitlines()[1:]
    assert bad.split()[:4] == ["medusa-bad", "medusa-bad", "0.2", "broken"]
    assert "ImportError" in bad
    assert "1 task, 1 data set" in good
    rows = medusa.json("plugins", "list")["plugins"]
    assert [row["state"] for row in rows] == ["broken", "loaded"]
    assert "Traceback" in rows[0]["traceback"]
    assert rows[1]["tasks"] == ["sharpness"]


def test_plugins_shows_tracebacks_when_debugging(medusa, installed):
    _, out, _ = medusa("--debug", "plugins", "list")
    assert "Traceback" in out
    assert "\x1b" not in out


def test_plugins_works_in_strict_mode_where_all_else_refuses(medusa, installed, monkeypatch):
    monkeypatch.setenv("MEDUSA_STRICT_PLUGINS", "1")
    code, out, err = medusa("tasks")
    assert (code, out) == (3, "")
    assert "Hint: Repair it, or do without: MEDUSA_DISABLE_PLUGINS=medusa-bad" in err
    assert medusa("plugins", "list")[0] == 0
    monkeypatch.setenv("MEDUSA_DISABLE_PLUGINS", "medusa-bad")
    assert medusa("tasks")[0] == 0


def test_disabled_plugins_are_shown_and_not_imported(medusa, installed, monkeypatch):
    monkeypatch.setenv("MEDUSA_PLUGINS", "")
    code, out, err = medusa("plugins", "list")
    assert (code, err, installed) == (0, "", [])
    assert out.count("disabled") == 2
    assert out.count("not named in MEDUSA_PLUGINS") == 2


def test_a_misspelt_switch_is_said(medusa, installed, monkeypatch):
    monkeypatch.setenv("MEDUSA_DISABLE_PLUGINS", "medusa-bat")
    _, _, err = medusa("plugins", "list")
    assert "names 'medusa-bat', which is not installed. Did you mean 'medusa-bad'?" in err


@pytest.mark.parametrize("command", [("tasks",), ("datasets",), ("plugins", "list")])
def test_nothing_installed_is_said_and_no_error(medusa, monkeypatch, command):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    code, out, err = medusa(*command)
    assert (code, err) == (0, "")
    assert "No " in out
    assert "found" in out
    assert next(iter(set(medusa.json(*command)) - {"schema_version"})) in command[0]
