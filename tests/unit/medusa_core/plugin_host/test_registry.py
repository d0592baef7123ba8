import pytest

from medusa_core.errors import PluginError, UnknownNameError, UsageError
from medusa_core.plugin_host import PluginSettings, load_host

ALL = PluginSettings()


def test_entries_are_sorted_whatever_the_order_of_plugins(plugins):
    points = [plugins.good("medusa-z", "beta"), plugins.good("medusa-a", "gamma", "alpha")]
    names = ("alpha", "beta", "gamma")
    assert load_host(points, ALL).tasks.names == names
    assert load_host(points[::-1], ALL).tasks.names == names


def test_a_name_is_found_bare_and_qualified(plugins):
    tasks = load_host([plugins.good("point", "alpha", dist="Dist_Name")], ALL).tasks
    spec = tasks.get("alpha")
    for name in ("dist-name:alpha", "Dist_Name:alpha", "point:alpha"):
        assert tasks.get(name) is spec
        assert name in tasks
    assert tasks.get("alpha", distribution="dist-name") is spec
    assert tasks.entry("alpha").provider.plugin == "point"
    assert "other:alpha" not in tasks
    assert tasks.find("alpha", "other") is None


def test_a_name_claimed_twice_is_an_error_only_when_used(plugins):
    tasks = load_host(
        [plugins.good("a", "same", "one"), plugins.good("b", "same", "two")], ALL
    ).tasks
    assert tasks.names == ("one", "same", "two")
    assert len(tasks) == 4
    assert tasks.get("one").name == "one"
    assert "same" not in tasks
    with pytest.raises(UsageError, match="is provided by 2 plugins") as caught:
        tasks.get("same")
    assert caught.value.hint == "Name one of them: a:same or b:same"
    assert tasks.entry("a:same").provider.plugin == "a"
    assert tasks.entry("same", distribution="b").provider.plugin == "b"


def test_two_plugins_of_one_distribution_are_told_apart_by_entry_point(plugins):
    points = [plugins.good(name, "same", dist="dist") for name in ("a", "b")]
    tasks = load_host(points, ALL).tasks
    with pytest.raises(UsageError) as caught:
        tasks.get("same")
    assert caught.value.hint == "Name one of them: a:same or b:same"
    assert tasks.entry("b:same").provider.plugin == "b"


def test_an_unknown_name_suggests_the_nearest(plugins):
    tasks = load_host([plugins.good("a", "alpha"), plugins.bad("import_error")], ALL).tasks
    with pytest.raises(UnknownNameError, match="Did you mean 'alpha'") as caught:
        tasks.get("alhpa")
    assert caught.value.exit_code == 2
    assert "medusa plugins list" in caught.value.hint


def test_without_any_plugin_the_hint_is_to_install_it():
    with pytest.raises(UnknownNameError, match="There is no task yet") as caught:
        load_host([], ALL).tasks.get("alpha")
    assert caught.value.hint == (
        "No task plugins found. Is medusa-heads installed? Run: pip install -e ."
    )


def test_disabled_plugins_are_named_in_the_hint(plugins):
    host = load_host([plugins.good("medusa-a", "alpha")], PluginSettings(allowed=frozenset()))
    with pytest.raises(UnknownNameError) as caught:
        host.tasks.get("alpha")
    assert "Disabled plugins: medusa-a" in caught.value.hint
    with pytest.raises(PluginError, match="is disabled: not named in MEDUSA_PLUGINS"):
        host.tasks.get("medusa-a:alpha")


def test_asking_a_broken_plugin_for_its_task_raises_its_own_exception(plugins):
    points = [plugins.bad("raises_midway"), plugins.bad("import_error"), plugins.good("a", "alpha")]
    host = load_host(points, ALL)
    for name, error in (
        ("half_done", OSError),  # it had named this one before it failed
        ("medusa-import-error:thing", ModuleNotFoundError),
        ("error", ModuleNotFoundError),  # a part of the plugin's name
        ("xyz", ModuleNotFoundError),  # nobody else could have it
    ):
        with pytest.raises(PluginError) as caught:
            host.tasks.get(name)
        assert caught.value.exit_code == 3
        assert isinstance(caught.value.__cause__, error)
        assert "medusa plugins disable medusa-" in caught.value.hint


def test_an_incompatible_plugin_is_blamed_for_what_it_named(plugins):
    host = load_host([plugins.bad("api_newer_minor")], ALL)
    with pytest.raises(PluginError, match="speaks plugin API 1.99") as caught:
        host.heads.get("from_the_future")
    assert "pip install --upgrade" in caught.value.hint
