"""First-party tasks are plugins like any other: the core does not know their names."""

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import medusa_core
import medusa_tasks
from medusa_core.cli import main
from medusa_core.plugin_host import PluginSettings, default_host, load_host, survey
from medusa_tasks import plugin as first_party

ROOT = Path(medusa_core.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = {spec.name for spec in first_party.medusa_register_tasks()}
HELP = {"help", "short_help", "epilog", "metavar"}


def constants(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """String constants of a module with their lines, without docstrings and help."""
    exempt: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            exempt.add(node.value)
        if isinstance(node, ast.keyword) and node.arg in HELP:
            exempt.update(ast.walk(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in exempt:
            yield node.lineno, node.value


def test_the_names_are_found_where_they_are_used():
    source = 'def f():\n    "depth"\n    g(help="depth", name="depth")\n'
    assert list(constants(ast.parse(source))) == [(3, "depth")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_string_in_the_core_is_the_name_of_a_task(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [(line, text) for line, text in constants(tree) if text in NAMES] == []


SHORT = ("--limit", "4", "--steps", "2", "--batch", "2", "--views", "1", "--size", "32x32")


@pytest.fixture
def medusa(capsys):
    """Runs a command that must succeed; returns its document."""

    def run(*args):
        default_host.cache_clear()
        capsys.readouterr()
        code = main(["--quiet", *map(str, args), "--json"])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        return json.loads(captured.out)

    return run


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MEDUSA_PLUGINS", ""),
        ("MEDUSA_PLUGINS", "medusa-heads,medusa-data"),
        ("MEDUSA_DISABLE_PLUGINS", ",".join(report.name for report in survey().reports)),
    ],
)
def test_without_a_plugin_for_tasks_everything_starts(
    variable, value, medusa, capsys, monkeypatch, make_folder, make_head
):
    model = make_folder(one=make_head())
    monkeypatch.setenv(variable, value)
    assert medusa("tasks")["tasks"] == []
    assert medusa("plugins", "list")["plugins"]
    assert [head["state"] for head in medusa("list", "-m", model)["heads"]] == ["orphan"]
    assert medusa("remove-task", "one", "-m", model, "--yes")["removed"] == ["one"]
    assert main(["tasks"]) == 0
    assert "No task plugins found. See: medusa plugins list" in capsys.readouterr().out


def test_a_stranger_does_the_main_job_with_no_first_party_task_or_data_set(
    medusa, install_plugin, make_model, monkeypatch
):
    model, name = make_model(), install_plugin("fails_in_use")
    monkeypatch.setenv("MEDUSA_PLUGINS", name)  # not even the heads of the core
    data = ("-m", model, "--data", "noise")
    head = ("--head", "fragile")
    assert list(medusa("add-task", "brightness", *data, *head, *SHORT)["heads"]) == ["brightness"]
    assert medusa("eval", *data)["heads"]["brightness"]["metrics"]["mae"] >= 0
    assert medusa("verify", "-m", model)["probes"] == {"brightness": "equal"}
    assert medusa("remove-task", "brightness", "-m", model, "--yes")["remaining"] == []


def test_a_copy_of_a_first_party_task_in_a_strangers_package_behaves_the_same(
    medusa, install_plugin, make_model, tmp_path
):
    package = tmp_path / "site" / "medusa_copy"
    shutil.copytree(Path(medusa_tasks.__file__).parent / "depth", package)
    for file in package.glob("*.py"):
        text = file.read_text(encoding="utf-8").replace("medusa_tasks.depth", "medusa_copy")
        text = text.replace('name="depth"', 'name="distance"')
        file.write_text(text.replace("TargetSpec(", 'TargetSpec(name="depth", '), encoding="utf-8")
    name = install_plugin(
        "from medusa_core.api import hookimpl\n"
        "from medusa_copy.spec import DEPTH\n"
        "@hookimpl\n"
        "def medusa_register_tasks():\n"
        "    return [DEPTH]\n",
        "medusa-copy",
    )
    model = make_model()
    data = ("-m", model, "--data", "rooms:64x64")
    heads = medusa("add-task", "depth,distance", *data, *SHORT)["heads"]
    assert heads["depth"]["metrics"] == heads["distance"]["metrics"]
    weights = [next((model / "heads" / name).rglob("*.safetensors")) for name in heads]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    scores = medusa("eval", *data, "--limit", "2")["heads"]
    assert scores["depth"]["metrics"] == scores["distance"]["metrics"]
    listed = medusa("list", "-m", model)["heads"]
    owners = {head["name"]: head["owner"]["distribution"] for head in listed}
    assert owners == {"depth": "medusa-heads", "distance": name}


def test_first_party_tasks_come_through_an_entry_point():
    host = load_host(settings=PluginSettings(allowed=frozenset({"medusa-tasks"})))
    assert set(host.tasks.names) == NAMES
    assert {entry.provider.plugin for entry in host.tasks} == {"medusa-tasks"}
    assert len(host.heads) == 0
