"""A zoo of bad plugins, installed for real: what each costs, and that it costs nobody else more."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medusa_core.plugin_host import importing

from .conftest import ROOMS, SHORT, Medusa

WHY = {
    "api_newer_fields": "incompatible: 'from_the_future' speaks plugin API 1.7, medusa-heads 0.1.0 "
    "speaks 1.0",
    "api_newer_major": "incompatible: 'from_the_future' speaks plugin API 2.0, medusa-heads 0.1.0 "
    "speaks 1.0",
    "api_newer_minor": "incompatible: 'from_the_future' speaks plugin API 1.99, medusa-heads 0.1.0 "
    "speaks 1.0",
    "api_older_major": "incompatible: 'from_the_past' speaks plugin API 0.9, medusa-heads 0.1.0 "
    "speaks 1.0",
    "cancelled": "broken: CancelledError: no Exception, as panics of compiled modules are not",
    "half_built": "broken: medusa_register_tasks returned a spec that is not valid: "
    "ValidationError: TaskSpec: title: Field required; implementation: Field required; output: "
    "Field required; target: Field required; metrics: Field required",
    "hook_typo": "broken: unknown hook 'medusa_register_task', did you mean "
    "'medusa_register_tasks'?",
    "import_error": "broken: ModuleNotFoundError: No module named 'a_package_nobody_has'",
    "no_marker": "broken: 'medusa_register_tasks' lacks the @hookimpl marker",
    "raises_in_hook": "broken: RuntimeError: the licence server does not answer",
    "raises_midway": "broken: OSError: the other half is missing",
    "renamed_copy": "broken: medusa_register_datasets returned a spec that is not valid: "
    "ValidationError: DatasetSpec: name: String should match pattern '^[a-z][a-z0-9_]{0,40}$'",
    "returns_nothing": "broken: medusa_register_tasks returned NoneType, not a list of TaskSpec",
    "returns_one": "broken: medusa_register_tasks returned TaskSpec, not a list of TaskSpec",
    "same_name_twice": "broken: medusa_register_datasets returned two specs named 'twice'",
    "syntax_error": "broken: SyntaxError: expected ':' "
    "(medusa_syntax_error_medusa_syntax_error_plugin.py, line 5)",
    "system_exit": "broken: SystemExit: a script, not a plugin",
    "unknown_field": "broken: ValidationError: DatasetSpec: title: Field required; titel: Extra "
    "inputs are not permitted",
    "unprintable": "broken: Unprintable",
    "wrong_argument": "broken: a hook has a wrong signature: Argument(s) {'registry'} are declared "
    "in the hookimpl but can not be found in the hookspec",
    "wrong_type": "broken: medusa_register_tasks returned a str where a TaskSpec was expected",
}
"""Specimens that cannot be loaded → what the one line about them says."""


def line(file: str) -> str:
    name = f"medusa-{file.replace('_', '-')}"
    return f"Warning: Plugin {name} 1.0 is {WHY[file]}. See: medusa plugins doctor {name}"


def light(medusa: Medusa, model: Path) -> tuple[list[Any], list[list[str]]]:
    """Documents and stderr of the commands that only look."""
    remove = ("remove-task", "depth", "--dry-run", "-m", model)
    commands = (("tasks",), ("datasets",), ("list", "-m", model), remove)
    done = [medusa.json(*command) for command in commands]
    return [document for document, _ in done], [rows for _, rows in done]


def heavy(medusa: Medusa, model: Path, photo: Path) -> tuple[list[Any], list[list[str]]]:
    """Documents and stderr of the commands that compute."""
    done = [
        medusa.json("eval", "-m", model, *ROOMS),
        medusa.json("predict", photo, "-m", model, "--tasks", "depth"),
        medusa.json("verify", "-m", model),
        medusa.json("add-task", "edges", "-m", model, *ROOMS, *SHORT, "--dry-run"),
        medusa.json("init", "other", "--backbone", "test_resnet", "--from-scratch"),
    ]
    done[3][0]["cache"].pop("free")  # of the disk, which others write to
    return [document for document, _ in done], [rows for _, rows in done]


def test_the_zoo_is_complete(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "fixtures" / "bad_plugins"
    assert sorted(path.stem for path in folder.iterdir() if path.is_file()) == sorted(WHY)


@pytest.mark.parametrize("file", sorted(WHY))
def test_a_plugin_that_cannot_be_loaded_costs_one_line(
    file: str, medusa: Medusa, install_plugin: Callable[..., str], model: Path
) -> None:
    before, _ = light(medusa, model)
    name = install_plugin(file)

    after, told = light(medusa, model)
    assert after == before
    assert told == [[line(file)]] * len(told)

    code, error = medusa.error("add-task", f"{name}:thing", "-m", model, "--dry-run")
    assert code == 3
    assert error == (f"The task '{name}:thing' is not available. Plugin {name} 1.0 is {WHY[file]}.")
    listed, told_by_list = medusa.json("plugins", "list")
    assert told_by_list == []
    assert {row["name"]: row["state"] for row in listed["plugins"]}[name] == "enabled"
    found, told_by_doctor = medusa.json("plugins", "doctor", name, code=3)
    assert told_by_doctor == [f"Error: {name} cannot be loaded."]
    [row] = found["plugins"]
    assert f"{row['state']}: {row['why']}" == WHY[file]
    assert "Traceback" in row["traceback"] or "SyntaxError" in row["traceback"]

    assert medusa.json("plugins", "disable", name)[0]["disabled"] == [name]
    after, told = light(medusa, model)
    assert (after, told) == (before, [[]] * len(told))


def test_all_of_them_together_change_no_result(
    medusa: Medusa, install_plugin: Callable[..., str], model: Path, photo: Path, tmp_path: Path
) -> None:
    before, told = heavy(medusa, model, photo)
    assert told == [[]] * len(told)
    picture = (tmp_path / "out" / "photo.depth.png").read_bytes()
    (tmp_path / "other").rename(tmp_path / "first")
    for file in WHY:
        install_plugin(file)

    after, told = heavy(medusa, model, photo)
    assert after == before
    assert (tmp_path / "out" / "photo.depth.png").read_bytes() == picture
    expected = sorted(map(line, WHY))
    loading = [rows for rows in told if rows]
    assert [sorted(rows) for rows in loading] == [expected] * len(loading)
    assert len(loading) >= 4  # `init` needs no plugin

    assert medusa("--help")[0] == medusa("plugins", "list")[0] == 0


def test_the_same_in_strict_mode_is_an_error_but_plugins_can_be_managed(
    medusa: Medusa, install_plugin: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = install_plugin("import_error")
    monkeypatch.setenv("MEDUSA_STRICT_PLUGINS", "1")
    code, error = medusa.error("tasks")
    assert (code, error) == (3, f"Plugin {name} 1.0 is {WHY['import_error']}.")
    assert medusa("plugins", "list")[0] == medusa("plugins", "show", name)[0] == 0
    assert medusa("plugins", "disable", name)[0] == 0
    assert medusa("tasks")[0] == 0


def test_an_incompatible_requirement_is_seen_without_an_import(
    medusa: Medusa, install_plugin: Callable[..., str]
) -> None:
    name = install_plugin("raise KeyboardInterrupt", "medusa-later", requires=["medusa-heads>=7"])
    _, _, err = medusa("tasks")
    assert err.splitlines() == [
        f"Warning: Plugin {name} 1.0 is incompatible: it needs medusa-heads>=7, 0.1.0 is "
        f"installed. See: medusa plugins doctor {name}"
    ]
    [row] = [r for r in medusa.json("plugins", "list")[0]["plugins"] if r["name"] == name]
    assert row["state"] == "incompatible"
    code, out, err = medusa("plugins", "doctor", name)
    assert code == 3
    assert f"Run: pip install --upgrade {name} medusa-heads." in out


def test_one_name_for_two_plugins_costs_both_until_one_is_disabled(
    medusa: Medusa, install_plugin: Callable[..., str]
) -> None:
    for dist in ("medusa-one", "medusa-two"):
        install_plugin("heavy_import", "same", dist=dist)
    _, _, err = medusa("tasks")
    assert err.splitlines() == [
        f"Warning: Plugin same of {dist} 1.0 is broken: 2 entry points are called 'same'; none was "
        "loaded. See: medusa plugins doctor same"
        for dist in ("medusa-one", "medusa-two")
    ]
    assert medusa("plugins", "disable", "medusa-two")[0] == 0
    assert medusa("tasks")[2] == ""


def test_a_task_of_a_name_that_is_taken_is_an_error_where_it_is_used(
    medusa: Medusa, install_plugin: Callable[..., str], model: Path
) -> None:
    name = install_plugin("same_task")
    document, told = medusa.json("tasks")
    assert told == []
    assert [task["name"] for task in document["tasks"]].count("depth") == 2
    assert medusa.error("add-task", "depth", "-m", model, "--dry-run", *ROOMS) == (
        2,
        "The task 'depth' is provided by 2 plugins: medusa-tasks (medusa-heads 0.1.0), "
        f"{name} ({name} 1.0).",
    )
    options = ("-m", model, "--dry-run", *ROOMS, *SHORT, "--name", "other")
    assert medusa("add-task", "medusa-heads:depth", *options)[0] == 0
    code, error = medusa.error("add-task", f"{name}:depth", *options)
    assert code == 3
    assert error.startswith(f"Plugin {name} 1.0 failed in the import of nowhere:Task: Module")
    assert medusa("eval", "-m", model, *ROOMS)[0] == 0  # heads know whose task is theirs


def test_a_heavy_import_is_blamed_by_the_doctor(
    medusa: Medusa, install_plugin: Callable[..., str]
) -> None:
    name = install_plugin("heavy_import")
    assert medusa("tasks")[2] == ""
    code, out, err = medusa("plugins", "doctor", name)
    assert (code, err) == (0, "")
    assert re.sub(r"\d+ ms", "N ms", out).splitlines() == [
        f"Plugin {name} 1.0 is loaded (imported in N ms)",
        "  imports numpy (N ms) in medusa_heavy_import_medusa_heavy_import_plugin: import it where "
        "it is used",
    ]


def test_a_slow_import_is_named_while_it_lasts(
    medusa: Medusa, install_plugin: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert importing.SLOW_SECONDS == 5
    monkeypatch.setattr(importing, "SLOW_SECONDS", 0.01)
    name = install_plugin("slow_import")
    document, told = medusa.json("tasks")
    assert document["tasks"]
    assert (
        f"Plugin {name} 1.0 is still being imported after 0.01 s. To do without it: "
        f"medusa plugins disable {name}"
    ) in told
    monkeypatch.setattr(importing, "SLOW_SECONDS", 600)  # now it would wait for a minute
    assert medusa("plugins", "list")[0] == medusa("plugins", "disable", name)[0] == 0
    assert medusa("tasks")[2] == ""


def command_line(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medusa_core", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_that_ends_the_process_is_found_and_can_be_disabled(
    medusa: Medusa, install_plugin: Callable[..., str]
) -> None:
    name = install_plugin("ends_the_process")
    assert command_line("tasks").returncode == 7  # nothing can be done about that
    document, _ = medusa.json("plugins", "doctor", name, code=3)
    assert document["plugins"][0]["why"] == "it ended the process (exit code 7)"
    assert medusa("plugins", "disable", name)[0] == 0
    assert command_line("tasks").returncode == 0


def test_what_is_printed_stays_off_stdout(
    medusa: Medusa, install_plugin: Callable[..., str], model: Path
) -> None:
    before, _ = medusa.json("tasks")
    install_plugin("chatty")
    document, told = medusa.json("tasks")
    assert document == before
    assert told == ["thank you for choosing this plugin", "rate it"] * 2
    document, told = medusa.json("remove-task", "depth", "--yes", "-m", model)
    assert document["removed"] == ["depth"]
    assert told.count("rate it") == 2  # it has been imported before


@pytest.mark.parametrize("command", [("tasks",), ("plugins", "show", "medusa-chatty")])
def test_nor_does_what_libraries_and_children_of_the_process_print(
    command: tuple[str, ...], install_plugin: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin("chatty")
    monkeypatch.setenv("CHATTY_PROCESS", "1")
    done = command_line(*command, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["schema_version"] == 1
    for text in ("rate it", "written by a compiled library", "printed by a child"):
        assert done.stderr.count(text) == 2
        assert text in done.stderr


def test_an_observer_that_fails_breaks_nothing(
    medusa: Medusa, install_plugin: Callable[..., str], model: Path
) -> None:
    name = install_plugin("bad_observer")
    options = ("-m", model, *ROOMS, *SHORT)
    document, told = medusa.json("add-task", "edges", "--head", "linear", *options)
    assert list(document["heads"]) == ["edges"]
    assert told[0].startswith(f"Warning: Plugin {name} 1.0: medusa_head_added failed: TypeError")
    document, told = medusa.json("eval", "--tasks", "edges", "-m", model, *ROOMS)
    assert told == [
        f"Warning: Plugin {name} 1.0: medusa_head_evaluated failed: SystemExit: that score will do."
    ]
    document, told = medusa.json("remove-task", "edges", "--yes", "-m", model)
    assert document["removed"] == ["edges"]
    assert told == [
        f"Warning: Plugin {name} 1.0: medusa_head_removed failed: RuntimeError: do not go."
    ]
