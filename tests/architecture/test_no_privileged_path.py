"""First-party tasks are plugins like any other: the core does not know their names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import medusa_core
from medusa_core.cli import main
from medusa_core.plugin_host import PluginSettings, load_host
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


def test_without_the_first_party_plugin_everything_starts(capsys, monkeypatch):
    monkeypatch.setenv("MEDUSA_PLUGINS", "medusa-heads,medusa-data")
    assert main(["tasks"]) == 0
    assert "No task plugins found. See: medusa plugins list" in capsys.readouterr().out
    assert main(["plugins", "list"]) == 0


def test_first_party_tasks_come_through_an_entry_point():
    host = load_host(settings=PluginSettings(allowed=frozenset({"medusa-tasks"})))
    assert set(host.tasks.names) == NAMES
    assert {entry.provider.plugin for entry in host.tasks} == {"medusa-tasks"}
    assert len(host.heads) == 0
