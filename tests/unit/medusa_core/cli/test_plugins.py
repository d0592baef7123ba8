"""`medusa plugins …` with good plugins; bad ones are in tests/e2e/bad_plugins."""

import json
import shutil

import pytest

from medusa_core.engine.feature_cache import cache_folder
from medusa_core.errors import UsageError
from medusa_core.plugin_host import default_host

GOOD = """
from medusa_core.api import DatasetSpec, hookimpl

@hookimpl
def medusa_register_datasets():
    return [DatasetSpec(name="photos", title="My photos", implementation="nowhere:Data")]
"""
UNIMPORTABLE = "raise BaseException('nobody may import this')"


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """A settings file of this test's own."""
    path = tmp_path / "settings.json"
    monkeypatch.setenv("MEDUSA_CONFIG", str(path))
    return path


def states(medusa):
    return {row["name"]: row["state"] for row in medusa.json("plugins", "list")["plugins"]}


def test_list_imports_nothing(medusa, install_plugin):
    install_plugin(UNIMPORTABLE, "medusa-secret", version="0.3")
    code, out, err = medusa("plugins", "list")
    assert (code, err) == (0, "")
    [row] = [row for row in out.splitlines() if row.startswith("medusa-secret ")]
    module = "medusa_secret_medusa_secret_plugin"
    assert row.split()[1:] == ["medusa-secret", "0.3", module, "enabled"]
    assert states(medusa)["medusa-secret"] == "enabled"


def test_requirements_are_lines_for_pip_without_the_host(medusa, install_plugin, tmp_path):
    install_plugin(GOOD, "b", dist="Medusa_B", version="2.1")
    commit = {"vcs": "git", "commit_id": "c0ffee"}
    for name, origin in (
        ("medusa-local", {"url": "file:///x", "dir_info": {"editable": True}}),
        ("medusa-wheel", {"url": "https://example.org/w.whl", "archive_info": {}}),
        ("medusa-git", {"url": "https://example.org/g", "vcs_info": commit}),
        ("medusa-one", {"url": "file:///many", "vcs_info": commit, "subdirectory": "plugins/one"}),
        ("medusa-odd", ["no", "object"]),
    ):
        install_plugin(GOOD, name)
        info = tmp_path / "site" / f"{name.replace('-', '_')}-1.0.dist-info"
        (info / "direct_url.json").write_text(json.dumps(origin))
    expected = [
        "Medusa_B==2.1",
        "medusa-git @ git+https://example.org/g@c0ffee",
        "-e file:///x",
        "medusa-odd==1.0",
        "medusa-one @ git+file:///many@c0ffee#subdirectory=plugins/one",
        "medusa-wheel @ https://example.org/w.whl",
    ]
    _, out, _ = medusa("plugins", "list", "--requirements")
    lines = out.splitlines()
    assert [line for line in lines if line in expected] == expected
    assert not any("medusa-heads" in line for line in lines)
    assert medusa.json("plugins", "list")["requirements"] == lines


def test_show_names_what_is_provided_and_only_that_plugin_is_imported(medusa, install_plugin):
    install_plugin(GOOD, "medusa-good")
    install_plugin(UNIMPORTABLE, "medusa-secret")
    _, out, err = medusa("plugins", "show", "medusa-good")
    assert "data set photos: My photos" in out
    assert "state: loaded" in out
    assert err == ""
    [row] = medusa.json("plugins", "show", "Medusa_Good")["plugins"]
    assert row["provides"]["data set"] == {"photos": "My photos"}


def test_a_distribution_stands_for_all_its_plugins(medusa):
    rows = medusa.json("plugins", "show", "medusa-tasks", "medusa-data")["plugins"]
    assert [row["name"] for row in rows] == ["medusa-tasks", "medusa-data"]
    assert {row["distribution"] for row in rows} == {"medusa-heads"}


@pytest.mark.parametrize("command", ["show", "doctor", "disable", "enable"])
def test_an_unknown_plugin_is_answered_with_the_nearest(medusa, command, settings):
    code, out, err = medusa("plugins", command, "medusa-taks")
    assert (code, out) == (2, "")
    assert "Unknown plugin 'medusa-taks'. Did you mean 'medusa-tasks'?" in err
    assert not settings.exists()


def test_doctor_says_that_all_is_well(medusa, install_plugin):
    install_plugin(GOOD, "medusa-good")
    code, out, err = medusa("plugins", "doctor")
    assert (code, err) == (0, "")
    assert "Plugin medusa-good 1.0 is loaded (imported in " in out
    assert "1 data set" in out


def test_doctor_imports_all_of_a_plugin_that_is_named(medusa, install_plugin):
    install_plugin(GOOD, "medusa-good")
    code, out, _ = medusa("plugins", "doctor", "medusa-good")
    assert code == 3
    assert (
        "is broken: 'photos': the import of nowhere:Data: ModuleNotFoundError: No module named "
        "'nowhere'"
    ) in out
    assert "Traceback" in out
    assert out.endswith("\n  To do without it: medusa plugins disable medusa-good\n")


def test_no_plugin_of_ours_imports_what_only_its_tasks_need(medusa):
    for row in medusa.json("plugins", "doctor")["plugins"]:
        assert row["heavy"] == [], row["name"]


def test_disabling_is_remembered_until_it_is_undone(medusa, install_plugin, settings):
    install_plugin(UNIMPORTABLE, "medusa-secret")
    settings.write_text('{"model": "kept"}')
    result = medusa.json("plugins", "disable", "medusa-secret", "medusa-tasks")
    assert result["disabled"] == ["medusa-secret", "medusa-tasks"]
    assert result["settings"] == str(settings)
    assert states(medusa)["medusa-secret"] == "disabled"
    left = {task["provider"]["plugin"] for task in medusa.json("tasks")["tasks"]}
    assert not left & {"medusa-secret", "medusa-tasks"}
    [row] = medusa.json("plugins", "show", "medusa-secret")["plugins"]
    assert (row["state"], row["why"]) == ("disabled", f"named in {settings}")
    code, _, err = medusa("add-task", "medusa-tasks:depth", "--dry-run")
    assert code == 3
    assert "Hint: To have it: medusa plugins enable medusa-tasks" in err
    assert medusa.json("plugins", "enable", "MEDUSA.secret")["disabled"] == ["medusa-tasks"]
    assert json.loads(settings.read_text()) == {
        "model": "kept",
        "plugins": {"disabled": ["medusa-tasks"]},
    }


PAIR = {"medusa-pair": {"disc", "ring"}, "Disc": {"disc"}, "ring": {"ring"}}
"""Names of a distribution and of its two plugins, and the plugins that each stands for."""


@pytest.mark.parametrize("disabled", PAIR)
@pytest.mark.parametrize("enabled", PAIR)
def test_enabling_undoes_disabling_by_any_name_and_nothing_else(
    medusa, install_plugin, tmp_path, disabled, enabled
):
    install_plugin(UNIMPORTABLE, "disc", dist="medusa-pair")
    points = tmp_path / "site" / "medusa_pair-1.0.dist-info" / "entry_points.txt"
    points.write_text("[medusa.plugins]\ndisc = secret\nring = secret\n")
    before = states(medusa)
    medusa.json("plugins", "disable", disabled, "medusa-tasks")
    medusa.json("plugins", "enable", enabled)
    left = dict.fromkeys(PAIR[disabled] - PAIR[enabled] | {"medusa-tasks"}, "disabled")
    assert states(medusa) == {**before, **left}


def test_what_is_disabled_can_be_enabled_after_it_was_uninstalled(medusa, settings):
    settings.write_text('{"plugins": {"disabled": ["medusa-gone"]}}')
    assert medusa("tasks")[2] == ""
    assert medusa.json("plugins", "enable", "medusa-gone")["disabled"] == []


def test_the_environment_goes_before_the_settings_and_that_is_said(medusa, monkeypatch, settings):
    monkeypatch.setenv("MEDUSA_DISABLE_PLUGINS", "")
    _, out, err = medusa("plugins", "disable", "medusa-tasks")
    assert out == "Disabled now: medusa-tasks\n"
    assert err == (f"Warning: MEDUSA_DISABLE_PLUGINS is set, and goes before {settings}.\n")
    assert states(medusa)["medusa-tasks"] == "enabled"


def test_a_look_into_a_disabled_plugin_says_that_it_is(medusa, install_plugin):
    install_plugin(GOOD, "medusa-good")
    line = "Warning: medusa-good is disabled, and loaded for this look only."
    assert line not in medusa("plugins", "doctor", "medusa-good")[2]
    medusa.json("plugins", "disable", "medusa-good")
    assert line in medusa("plugins", "doctor", "medusa-good")[2]


def test_heads_obey_the_lists_like_everything_else(medusa, monkeypatch):
    monkeypatch.setenv("MEDUSA_PLUGINS", "medusa-tasks")
    code, _, err = medusa("add-task", "depth", "--dry-run")
    assert code == 2
    assert "Unknown head architecture 'medusa'" in err
    assert "Disabled plugins: " in err
    assert "medusa-data, medusa-heads" in err


def test_damaged_settings_are_named_by_every_command_and_help_still_works(medusa, settings):
    settings.write_text("{")
    for command in (("tasks",), ("plugins", "list"), ("plugins", "disable", "medusa-tasks")):
        code, out, err = medusa(*command)
        assert (code, out) == (2, "")
        assert f"The settings {settings} cannot be used" in err
    assert settings.read_text() == "{"
    assert medusa("--help")[0] == 0


def test_damaged_metadata_hides_its_own_plugin_only(medusa, install_plugin, tmp_path):
    before = states(medusa)
    install_plugin(GOOD, "medusa-good")
    install_plugin(GOOD, "medusa-damaged")
    info = tmp_path / "site" / "medusa_damaged-1.0.dist-info"
    (info / "entry_points.txt").write_text("[medusa.plugins]\nno value\n")
    assert states(medusa) == {**before, "medusa-good": "enabled"}
    assert medusa("datasets")[0] == 0
    (info / "entry_points.txt").write_text("[medusa.plugins]\nx = a b c\n")
    (info / "METADATA").unlink()
    assert states(medusa)["x"] == "enabled"
    default_host.cache_clear()
    _, _, err = medusa("datasets")
    assert err.startswith("Warning: Plugin x unknown is broken: ")


def test_an_option_goes_before_a_variable_that_before_the_file_that_before_the_default(
    medusa, make_folder, settings, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    make_folder().rename("flag")
    for name in ("variable", "file", "medusa-model"):
        shutil.copytree("flag", name)
    assert medusa.json("list")["model"] == "medusa-model"
    settings.write_text('{"model": "file"}')
    assert medusa.json("list")["model"] == "file"
    monkeypatch.setenv("MEDUSA_MODEL", "variable")
    assert medusa.json("list")["model"] == "variable"
    assert medusa.json("list", "-m", "flag")["model"] == "flag"


@pytest.mark.parametrize("stored", ["~nosuchuser/m", "a\0b"])
def test_a_model_that_cannot_be_a_path_is_an_error_and_nothing_is_made(
    medusa, settings, monkeypatch, tmp_path, stored
):
    monkeypatch.chdir(tmp_path)
    settings.write_text(json.dumps({"model": stored}))
    for command in (("list",), ("verify",), ("doctor",), ("add-task", "edges")):
        code, out, err = medusa(*command)
        assert (code, out) == (2, "")
        assert "Hint: " in err
        assert "unexpected" not in err
    assert list(tmp_path.iterdir()) == [settings]


def test_the_cache_is_where_the_variable_or_else_the_file_says(settings, monkeypatch, tmp_path):
    monkeypatch.delenv("MEDUSA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "medusa" / "features"
    settings.write_text('{"cache": "~/kept"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "kept" / "features"
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "variable"))
    assert cache_folder() == tmp_path / "variable" / "features"


def test_a_user_without_a_home_keeps_the_cache_where_it_is_told(tmp_path, monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MEDUSA_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "features"
    monkeypatch.delenv("MEDUSA_CACHE")
    with pytest.raises(UsageError, match="no home folder is known"):
        cache_folder()
