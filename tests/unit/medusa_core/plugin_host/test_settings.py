import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa_core.plugin_host.settings import PluginSettings, normalise

names = st.from_regex(r"[a-z][a-z0-9]*([-_.]+[a-z0-9]+){0,2}", fullmatch=True)


@given(names)
def test_normalising_is_idempotent_and_blind_to_separators_and_case(name):
    assert normalise(normalise(name)) == normalise(name)
    assert normalise(name.replace("-", "_").upper()) == normalise(name)


@given(st.lists(names))
def test_lists_survive_spaces_and_empty_parts(found):
    environ = {"MEDUSA_PLUGINS": " , ".join([*found, ""])}
    assert PluginSettings.from_environment(environ).allowed == {normalise(name) for name in found}


def test_unset_means_all_and_empty_means_none():
    assert PluginSettings.from_environment({}) == PluginSettings()
    empty = PluginSettings.from_environment({"MEDUSA_PLUGINS": ""})
    assert empty.allowed == frozenset()
    assert empty.why_disabled("a", "a", ["a"]) == "not named in MEDUSA_PLUGINS"


@pytest.mark.parametrize(
    ("value", "strict"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_strict_is_a_switch(value, strict):
    assert PluginSettings.from_environment({"MEDUSA_STRICT_PLUGINS": value}).strict is strict


def test_an_entry_point_goes_before_a_distribution_of_the_same_name():
    points = ["medusa-tasks", "medusa-heads"]
    settings = PluginSettings(disabled=frozenset({"medusa-heads"}))
    assert settings.why_disabled("medusa-tasks", "medusa-heads", points) is None
    assert settings.why_disabled("medusa-heads", "medusa-heads", points) is not None
    assert settings.why_disabled("other", "medusa-heads", ["other", "another"]) is not None


def test_disabling_beats_allowing():
    both = PluginSettings(allowed=frozenset({"a"}), disabled=frozenset({"a"}))
    assert both.why_disabled("a", "a", ["a"]) == "named in MEDUSA_DISABLE_PLUGINS"
