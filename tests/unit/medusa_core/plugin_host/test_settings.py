import codecs
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa_core.engine.datasets import DataRef
from medusa_core.errors import UsageError
from medusa_core.plugin_host.settings import PluginSettings, normalise
from medusa_core.settings import (
    Settings,
    at_home,
    folder_setting,
    read_settings,
    settings_file,
    write_settings,
)

names = st.from_regex(r"[a-z][a-z0-9]*([-_.]+[a-z0-9]+){0,2}", fullmatch=True)
NO_FILE = {"MEDUSA_CONFIG": "/nowhere/settings.json"}


@given(names)
def test_normalising_is_idempotent_and_blind_to_separators_and_case(name):
    assert normalise(normalise(name)) == normalise(name)
    assert normalise(name.replace("-", "_").upper()) == normalise(name)


@given(st.lists(names))
def test_lists_survive_spaces_and_empty_parts(found):
    environ = {**NO_FILE, "MEDUSA_PLUGINS": " , ".join([*found, ""])}
    assert PluginSettings.of_user(environ).allowed == {normalise(name) for name in found}


def test_unset_means_all_and_empty_means_none():
    unset = PluginSettings.of_user(NO_FILE)
    assert (unset.allowed, unset.disabled, unset.strict) == (None, frozenset(), False)
    empty = PluginSettings.of_user({**NO_FILE, "MEDUSA_PLUGINS": ""})
    assert empty.allowed == frozenset()
    assert empty.why_disabled("a", "a", ["a"]) == "not named in MEDUSA_PLUGINS"


@pytest.mark.parametrize(
    ("value", "strict"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_strict_is_a_switch(value, strict):
    environ = {**NO_FILE, "MEDUSA_STRICT_PLUGINS": value}
    assert PluginSettings.of_user(environ).strict is strict


def test_an_entry_point_goes_before_a_distribution_of_the_same_name():
    points = ["medusa-tasks", "medusa-heads"]
    settings = PluginSettings(disabled=frozenset({"medusa-heads"}))
    assert settings.why_disabled("medusa-tasks", "medusa-heads", points) is None
    assert settings.why_disabled("medusa-heads", "medusa-heads", points) is not None
    assert settings.why_disabled("other", "medusa-heads", ["other", "another"]) is not None


def test_disabling_beats_allowing():
    both = PluginSettings(allowed=frozenset({"a"}), disabled=frozenset({"a"}))
    assert both.why_disabled("a", "a", ["a"]) == "named in MEDUSA_DISABLE_PLUGINS"


@pytest.fixture
def file(tmp_path):
    """A settings file that says something about everything, and the environment that names it."""
    path = tmp_path / "settings.json"
    plugins = {"allowed": ["A_a", "b"], "disabled": ["b"], "strict": True}
    path.write_text(json.dumps({"model": "m", "cache": "c", "plugins": plugins}))
    return {"MEDUSA_CONFIG": str(path)}


def test_the_file_counts_where_the_environment_says_nothing(file):
    settings = PluginSettings.of_user(file)
    assert settings.allowed == {"a-a", "b"}
    assert settings.disabled == {"b"}
    assert settings.strict
    assert settings.why_disabled("b", "b", ["b"]) == f"named in {file['MEDUSA_CONFIG']}"
    assert settings.why_disabled("x", "x", ["x"]) == f"not named in {file['MEDUSA_CONFIG']}"


@pytest.mark.parametrize(
    ("variable", "attribute", "value"),
    [
        ("MEDUSA_PLUGINS", "allowed", frozenset()),
        ("MEDUSA_DISABLE_PLUGINS", "disabled", frozenset()),
        ("MEDUSA_STRICT_PLUGINS", "strict", False),
    ],
)
def test_each_variable_goes_before_the_file_even_if_empty(file, variable, attribute, value):
    stored, given_ = PluginSettings.of_user(file), PluginSettings.of_user({**file, variable: ""})
    assert getattr(given_, attribute) == value != getattr(stored, attribute)
    others = {"allowed", "disabled", "strict"} - {attribute}
    assert all(getattr(given_, other) == getattr(stored, other) for other in others)


def test_the_file_is_in_the_users_folder_of_configuration(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings_file({}) == tmp_path / ".config" / "medusa" / "settings.json"
    assert settings_file({"XDG_CONFIG_HOME": "/x"}).as_posix() == "/x/medusa/settings.json"
    assert settings_file({"MEDUSA_CONFIG": "/y.json"}).as_posix() == "/y.json"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}" + " " * 2**20, "more than 1048576 bytes"),
        ("{", "EOF while parsing"),
        ("[]", "Input should be an object"),
        ('{"modle": "x"}', "modle: Extra inputs are not permitted"),
        ('{"plugins": {"disabled": "a"}}', "plugins.disabled: Input should be a valid"),
        ('{"plugins": {"strict": 1}}', "plugins.strict: Input should be a valid boolean"),
        ('{"model": "a\\u0000b"}', "model: Value error, a path cannot hold a zero byte"),
        ('{"cache": "\\u0000"}', "cache: Value error, a path cannot hold a zero byte"),
        ("\udcff", "the file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, text, said):
    path = tmp_path / "settings.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as caught:
        read_settings({"MEDUSA_CONFIG": str(path)})
    assert str(path) in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize("path", ["/dev/null", "/dev/null/settings.json", "/nowhere/s.json"])
def test_no_file_and_an_empty_one_say_nothing(path):
    assert read_settings({"MEDUSA_CONFIG": path}) == Settings()


def test_the_mark_that_some_editors_put_first_is_no_matter(tmp_path):
    path = tmp_path / "settings.json"
    path.write_bytes(codecs.BOM_UTF8 + b'{"model": "m"}')
    assert read_settings({"MEDUSA_CONFIG": str(path)}).model == "m"


NOBODY = st.from_regex(r"nosuchuser[a-z0-9]{0,8}", fullmatch=True)
below = st.from_regex(r"(/[a-z.~]{1,8}){0,3}", fullmatch=True)


@given(NOBODY, below)
def test_the_home_of_nobody_is_an_error_wherever_it_is_named(user, rest):
    path = f"~{user}{rest}"
    for place in (
        lambda: at_home(path),
        lambda: read_settings({"MEDUSA_CONFIG": path}),
        lambda: folder_setting("MEDUSA_NOTHING", path, Path("default")),
        lambda: DataRef.parse(f"folder:{path}"),
    ):
        with pytest.raises(UsageError, match=f"no home folder is known for '~{user}'") as caught:
            place()
        assert path in caught.value.message
        assert caught.value.hint == "Write the path in full."


@given(below)
def test_a_path_without_a_home_stays_as_it_is_and_ones_own_is_found(rest):
    assert at_home(f"https://x{rest}") == f"https://x{rest}"
    assert at_home(f"~{rest}") == f"{os.path.expanduser('~')}{rest}"


def test_the_file_may_be_named_by_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings_file({"MEDUSA_CONFIG": "~/s.json"}) == tmp_path / "s.json"


def test_a_user_without_a_home_has_no_settings(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("medusa_core.settings.Path.home", homeless)
    assert read_settings({}) == Settings()


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings({"MEDUSA_CONFIG": str(tmp_path)})


def test_what_is_written_is_read_again_and_a_link_stays_one(monkeypatch, tmp_path):
    real, link = tmp_path / "dotfiles" / "s.json", tmp_path / "new" / "settings.json"
    real.parent.mkdir()
    link.parent.mkdir()
    real.write_text("{}")
    link.symlink_to(real)
    monkeypatch.setenv("MEDUSA_CONFIG", str(link))
    settings = Settings(model="m")
    assert write_settings(settings) == link
    assert link.is_symlink()
    assert read_settings() == settings
    assert [path.name for path in link.parent.iterdir()] == ["settings.json"]


def test_a_failed_write_leaves_the_old_file(monkeypatch, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"model": "old"}')
    monkeypatch.setenv("MEDUSA_CONFIG", str(path))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medusa_core.settings.os.replace", full)
    with pytest.raises(UsageError, match="No space left"):
        write_settings(Settings(model="new"))
    assert read_settings().model == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_writing_settings_leaves_who_may_read_them(tmp_path, monkeypatch, mode):
    file = tmp_path / "settings.json"
    monkeypatch.setenv("MEDUSA_CONFIG", str(file))
    write_settings(Settings())
    file.chmod(mode)
    write_settings(Settings(model="kitchen"))
    assert file.stat().st_mode & 0o777 == mode
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
