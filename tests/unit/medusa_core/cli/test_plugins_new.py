"""`medusa plugins new`: what it writes works as it is, and nothing that exists is touched."""

import ast
import builtins
import keyword
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import medusa_core
from medusa_core.api import DatasetSpec, hookimpl
from medusa_core.cli import main
from medusa_core.errors import NameTakenError, StoreError, UsageError
from medusa_core.plugin_host import load_host
from medusa_core.testing.main_job import plugin_host
from medusa_core.workflows.new_plugin import LICENCES, new_plugin

ROOT = Path(medusa_core.__file__).parents[1]
KINDS = pytest.mark.parametrize(
    "options", [{}, {"dataset": True}, {"head": True}], ids=["task", "task-and-data", "head"]
)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


@KINDS
def test_the_package_is_complete(tmp_path, options):
    made = new_plugin("wall-paint", into=tmp_path, author="A  Name", **options)
    folder = tmp_path / "medusa-wall-paint"
    written = files(folder)
    assert sorted(written) == made["files"]
    assert ("src/medusa_wall_paint/dataset.py" in written) == ("dataset" in options)
    assert made["head" if "head" in options else "task"] == "wall_paint"
    assert made["task" if "head" in options else "head"] is None
    for path, text in written.items():
        if path.endswith(".py"):
            compile(text, path, "exec")
        assert path == "LICENSE" or "$" not in text
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
    project = tomllib.loads(written["pyproject.toml"])["project"]
    assert project["name"] == made["distribution"] == "medusa-wall-paint"
    [host] = [line for line in project["dependencies"] if line.startswith("medusa-heads")]
    assert host == "medusa-heads>=0.1,<1"
    assert project["entry-points"]["medusa.plugins"] == {
        "medusa-wall-paint": "medusa_wall_paint.plugin"
    }
    assert set(tmp_path.iterdir()) == {folder}


@pytest.mark.parametrize("licence", LICENCES)
def test_the_licence_is_the_one_asked_for(tmp_path, licence):
    new_plugin("disc", into=tmp_path, licence=licence, author="Ann Author")
    written = files(tmp_path / "medusa-disc")
    assert tomllib.loads(written["pyproject.toml"])["project"]["license"] == licence
    name = licence.partition("-")[0]
    assert name in written["LICENSE"] or name == "Apache"
    assert ("Ann Author" in written["LICENSE"]) == (licence != "Apache-2.0")
    if licence == "Apache-2.0":
        assert written["LICENSE"] == (ROOT / "LICENSE").read_text("utf-8")


@pytest.mark.parametrize(
    "name", ["", "Disc", "1disc", "-disc", "a--b", "disc!", "../disc", "a/b", "a" * 31]
)
def test_names_that_cannot_be_used_are_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "--", name]) == 2
    assert "Hint: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        *("depth", "medusa-human-parts", "human_parts"),
        *("tasks", "core", "data", "heads", "model"),
    ],
)
def test_names_that_are_taken_are_refused(tmp_path, name):
    with pytest.raises(NameTakenError, match=r"already|installed|models are kept"):
        new_plugin(name, into=tmp_path)
    assert not list(tmp_path.iterdir())


class Ripples:
    """A plugin with a data set of the name that a new plugin's would get."""

    __name__ = "ripples"

    @hookimpl
    def medusa_register_datasets(self):
        return [DatasetSpec(name="ripple_data", title="Ripples", implementation="nowhere:Data")]


def test_a_data_set_of_a_name_that_is_taken_is_refused(tmp_path):
    host = plugin_host(Ripples())
    with pytest.raises(NameTakenError, match="'ripple_data' already"):
        new_plugin("ripple", into=tmp_path, dataset=True, host=host)
    assert not list(tmp_path.iterdir())
    assert new_plugin("ripple", into=tmp_path, host=host)["task"] == "ripple"


def test_a_head_may_have_the_name_of_a_task_but_not_of_a_head(tmp_path):
    assert new_plugin("depth", into=tmp_path, head=True)["head"] == "depth"
    with pytest.raises(NameTakenError, match="has a head 'linear' already"):
        new_plugin("linear", into=tmp_path, head=True)
    with pytest.raises(UsageError, match="not with a head"):
        new_plugin("disc", into=tmp_path, head=True, dataset=True)


def test_nothing_that_exists_is_written_over(tmp_path):
    (tmp_path / "medusa-disc").mkdir()
    (tmp_path / "medusa-ring").symlink_to(tmp_path / "nowhere")
    for name in ("disc", "ring"):
        with pytest.raises(NameTakenError, match="exists already"):
            new_plugin(name, into=tmp_path)
    assert not list((tmp_path / "medusa-disc").iterdir())


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(StoreError, match="No space left"):
        new_plugin("disc", into=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "disc", "--dry-run"]) == 0
    assert "Would write medusa-disc:" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_what_to_do_next_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "disc", "--dataset"]) == 0
    out = capsys.readouterr().out
    assert "Next: pip install -e ./medusa-disc && pytest ./medusa-disc" in out
    assert "Then: medusa add-task disc --data disc_data" in out
    assert main(["plugins", "new", "ring", "--head"]) == 0
    assert "Then: medusa add-task depth --head ring\n" in capsys.readouterr().out


def bound_at_the_top(source: str) -> list[str]:
    """Every name that a module imports, assigns or defines, as often as it does."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
    return names


@pytest.fixture(scope="module")
def words_of_the_package(tmp_path_factory) -> list[str]:
    """Every word of the generated modules that could be the name of a task, and Python's own."""
    code = ""
    for options in ({"dataset": True}, {"head": True}):
        folder = tmp_path_factory.mktemp("words")
        new_plugin("wall-paint", into=folder, **options)
        code += "\n".join(text for path, text in files(folder).items() if path.endswith(".py"))
    words = {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", word) for word in re.findall(r"[A-Za-z]\w*", code)}
    words |= {*keyword.kwlist, *dir(builtins)}
    names = {word.lower().strip("_").replace("_", "-") for word in words}
    return sorted(name for name in names if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name))


@pytest.mark.parametrize("options", [{"dataset": True}, {"head": True}], ids=["task", "head"])
def test_no_name_collides_with_what_the_modules_use(tmp_path, words_of_the_package, options):
    host = load_host([])
    for name in words_of_the_package:
        try:
            made = new_plugin(name, into=tmp_path, host=host, **options)
        except UsageError:
            continue
        for path, text in files(Path(made["folder"])).items():
            if path.endswith(".py"):
                names = bound_at_the_top(text)
                assert len(names) == len(set(names)), (name, path)


@pytest.mark.slow
@KINDS
def test_the_package_passes_its_own_tests(tmp_path, options):
    made = new_plugin("wall-paint", into=tmp_path, **options)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=made["folder"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " failed" not in done.stdout


@KINDS
def test_the_package_is_tidy(tmp_path, options):
    pytest.importorskip("ruff")
    made = new_plugin("wall-paint", into=tmp_path, **options)
    rules = ["--isolated", "--line-length", "100", "--config", 'src = ["src"]']
    for command in (
        ["check", "--select", "E,F,I,UP,B,C4,SIM,PT", *rules],
        ["format", "--check", *rules],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."],
            cwd=made["folder"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
