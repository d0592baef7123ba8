"""Commands that only look start fast, because they import nothing heavy."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from benchmarks.startup import install_plugins
from medusa_core.cli import COMMANDS, main

HEAVY = {"numpy", "scipy", "timm", "torch", "torchvision", "PIL", "safetensors"}
PLUGIN_LIBRARIES = {"pluggy", "pydantic", "rich"}

SCRIPT = """
import json, sys
from medusa_core.cli import main
code = main(json.loads(sys.argv[1]))
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def imported(*args):
    """The packages a command line imported."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([str(arg) for arg in args])],
        capture_output=True,
        text=True,
        check=True,
    )
    code, names = json.loads(process.stderr.splitlines()[-1])
    assert code == 0, process.stderr
    return set(names)


@pytest.mark.parametrize("args", [("--help",), ("--version",)])
def test_help_imports_nothing_but_click(args):
    assert imported(*args) & (HEAVY | PLUGIN_LIBRARIES) == set()


@pytest.mark.parametrize(
    "args",
    [
        ("tasks",),
        ("tasks", "--json"),
        ("datasets",),
        ("plugins", "list"),
        ("plugins", "show", "medusa-tasks"),
        ("plugins", "doctor"),
        ("plugins", "disable", "medusa-tasks"),
        ("add-task", "--help"),
    ],
    ids=" ".join,
)
def test_looking_imports_no_tensor_library(args, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDUSA_CONFIG", str(tmp_path / "settings.json"))
    assert imported(*args) & HEAVY == set()


def test_listing_plugins_imports_none(install_plugin):
    install_plugin("heavy_import")
    assert "medusa_tasks" not in imported("plugins", "list")
    assert "numpy" not in imported("plugins", "list")
    assert "numpy" in imported("tasks")


def test_fifty_plugins_import_no_tensor_library(tmp_path, monkeypatch):
    """How long it takes is measured by `python -m benchmarks.startup`."""
    names = install_plugins(tmp_path, 50)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    found = imported("tasks")
    assert found & HEAVY == set()
    assert {name.replace("-", "_") for name in names} <= found


def test_listing_a_model_imports_no_tensor_library(make_folder, make_head):
    folder = make_folder(one=make_head())
    assert imported("list", "--model", folder) & HEAVY == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name, capsys):
    path, text = COMMANDS[name]
    module, _, attribute = path.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert command.name == name
    assert command.short_help == text
    leaves = [(name, sub) for sub in getattr(command, "commands", {})] or [(name,)]
    for leaf in leaves:
        assert main([*leaf, "--help"]) == 0
        assert "\n  Examples:\n" in capsys.readouterr().out
