import random
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medusa_core.errors import MedusaWarning, PluginError
from medusa_core.model.assembly import make_task
from medusa_core.plugin_host import PluginSettings, PluginState, default_host, discovery, load_host
from medusa_core.plugin_host.importing import stdout_to_stderr

ALL = PluginSettings()

WHY = {
    "api_newer_fields": (PluginState.INCOMPATIBLE, "'from_the_future' speaks plugin API 1.7"),
    "api_newer_major": (PluginState.INCOMPATIBLE, "speaks plugin API 2.0"),
    "api_newer_minor": (PluginState.INCOMPATIBLE, "speaks plugin API 1.99"),
    "api_older_major": (PluginState.INCOMPATIBLE, "speaks plugin API 0.9"),
    "cancelled": (PluginState.BROKEN, "CancelledError: no Exception"),
    "half_built": (PluginState.BROKEN, "ValidationError: TaskSpec: title: Field required"),
    "hook_typo": (PluginState.BROKEN, "did you mean 'medusa_register_tasks'?"),
    "import_error": (PluginState.BROKEN, "ModuleNotFoundError: No module named 'a_package"),
    "no_marker": (PluginState.BROKEN, "lacks the @hookimpl marker"),
    "raises_in_hook": (PluginState.BROKEN, "RuntimeError: the licence server does not answer"),
    "raises_midway": (PluginState.BROKEN, "OSError: the other half is missing"),
    "renamed_copy": (PluginState.BROKEN, "ValidationError: DatasetSpec: name: String should match"),
    "returns_nothing": (PluginState.BROKEN, "returned NoneType, not a list of TaskSpec"),
    "returns_one": (PluginState.BROKEN, "returned TaskSpec, not a list of TaskSpec"),
    "same_name_twice": (PluginState.BROKEN, "two specs named 'twice'"),
    "system_exit": (PluginState.BROKEN, "SystemExit: a script, not a plugin"),
    "unknown_field": (PluginState.BROKEN, "DatasetSpec: title: Field required; titel: Extra"),
    "unprintable": (PluginState.BROKEN, "Unprintable"),
    "wrong_argument": (PluginState.BROKEN, "registry"),
    "wrong_type": (PluginState.BROKEN, "returned a str where a TaskSpec was expected"),
}


def test_every_bad_plugin_has_its_expectation(plugins):
    assert sorted(WHY) == plugins.bad_files


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(broken=st.sets(st.sampled_from(sorted(WHY))), order=st.randoms(use_true_random=False))
def test_broken_plugins_never_disturb_the_others(plugins, broken, order):
    points = [plugins.good("medusa-a", "alpha", "beta"), plugins.good("medusa-b", "gamma")]
    points += [plugins.bad(file) for file in broken]
    random.Random(order.random()).shuffle(points)

    host = load_host(points, ALL)

    assert host.tasks.names == ("alpha", "beta", "gamma")
    assert len(host.heads) == len(host.datasets) == 0
    states = {report.name: report.state for report in host.reports}
    assert len(states) == len(points) == len(host.reports)
    assert states.pop("medusa-a") is states.pop("medusa-b") is PluginState.LOADED
    assert states == {f"medusa-{f.replace('_', '-')}": WHY[f][0] for f in broken}
    assert len(host.warnings) == len(broken)
    assert all("\n" not in line for line in host.warnings)


@pytest.mark.parametrize("file", sorted(WHY))
def test_a_report_says_who_and_why_and_holds_the_exception(plugins, file):
    host = load_host([plugins.bad(file, version="0.3")], ALL)
    (report,) = host.reports
    state, why = WHY[file]
    assert report.state is state
    assert why in report.why
    assert report.distribution == f"medusa-{file.replace('_', '-')}"
    assert report.version == "0.3"
    assert report.import_ms is not None
    assert type(report.error).__name__ in report.traceback
    assert str(report) in host.warnings[0]


@pytest.mark.parametrize("file", sorted(WHY))
def test_strict_makes_a_broken_plugin_fatal(plugins, file):
    with pytest.raises(PluginError) as caught:
        load_host(
            [plugins.good("medusa-a", "alpha"), plugins.bad(file)], PluginSettings(strict=True)
        )
    assert caught.value.exit_code == 3
    assert WHY[file][1] in caught.value.message
    assert "medusa plugins disable medusa-" in caught.value.hint
    assert caught.value.__cause__ is not None


def test_a_keyboard_interrupt_is_not_swallowed(plugins):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_host([plugins.entry_point("medusa-a", interrupted)], ALL)


def test_commands_to_copy_quote_hostile_names(plugins):
    name = "x; rm -rf ~"
    host = load_host([plugins.bad("import_error", name)], ALL)
    assert host.warnings[0].endswith("See: medusa plugins doctor 'x; rm -rf ~'")
    assert "medusa plugins disable 'x; rm -rf ~'" in host.reports[0].remedy


def test_what_a_plugin_prints_stays_off_stdout(plugins, capsys):
    def chatty():
        print("thank you for choosing this plugin")
        return plugins.make_plugin()

    load_host([plugins.entry_point("medusa-a", chatty)], ALL)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "thank you" in captured.err


def test_disabled_plugins_are_reported_and_not_imported(plugins):
    wanted, unwanted = plugins.good("medusa-a", "alpha"), plugins.good("medusa-b", "beta")
    host = load_host([wanted, unwanted], PluginSettings(disabled=frozenset({"medusa-b"})))
    assert host.tasks.names == ("alpha",)
    assert (wanted.loads, unwanted.loads) == (1, 0)
    assert [r.state for r in host.reports] == [PluginState.LOADED, PluginState.DISABLED]
    assert host.reports[1].import_ms is None
    assert host.warnings == ()


def test_an_empty_allow_list_loads_nothing_even_if_strict(plugins):
    points = [plugins.good("medusa-a", "alpha"), plugins.bad("import_error")]
    host = load_host(points, PluginSettings(allowed=frozenset(), strict=True))
    assert host.tasks.names == ()
    assert [point.loads for point in points] == [0, 0]


def test_a_requirement_on_another_host_is_refused_before_the_import(plugins):
    fits = plugins.good("medusa-a", "alpha", requires=["medusa_heads >=0.1,<1", "numpy"])
    other = plugins.good("medusa-b", "beta", requires=["medusa-heads>=7"])
    extra = plugins.good("medusa-c", "gamma", requires=["medusa-heads>=7; extra == 'next'"])
    host = load_host([fits, other, extra], ALL)
    assert host.tasks.names == ("alpha", "gamma")
    assert other.loads == 0
    report = next(r for r in host.reports if r.name == "medusa-b")
    assert report.state is PluginState.INCOMPATIBLE
    assert "needs medusa-heads>=7" in report.why


def test_one_name_in_two_distributions_loads_neither(plugins):
    points = [plugins.good("same", "alpha", dist=dist) for dist in ("one", "two")]
    host = load_host([*points, plugins.good("medusa-b", "beta")], ALL)
    assert host.tasks.names == ("beta",)
    assert [r.state for r in host.reports if r.name == "same"] == [PluginState.BROKEN] * 2


def test_an_entry_point_found_twice_is_one_plugin(plugins):
    points = [plugins.good("medusa-a", "alpha"), plugins.good("medusa-a", "alpha")]
    host = load_host(points, ALL)
    assert len(host.reports) == 1
    assert host.tasks.names == ("alpha",)


def test_a_distribution_without_metadata_is_named_after_its_entry_point(plugins):
    point = plugins.good("medusa-a", "alpha")
    point.dist = None
    (report,) = load_host([point], ALL).reports
    assert (report.distribution, report.version) == ("medusa-a", "unknown")
    assert report.state is PluginState.LOADED


def test_settings_that_name_nothing_are_noted(plugins):
    settings = PluginSettings(disabled=frozenset({"medusa-alhpa"}))
    host = load_host([plugins.good("medusa-alpha", "alpha")], settings)
    assert host.warnings == (
        "MEDUSA_DISABLE_PLUGINS names 'medusa-alhpa', which is not installed. "
        "Did you mean 'medusa-alpha'?",
    )


def test_the_owner_of_a_spec_is_its_plugin(plugins):
    host = load_host(
        [plugins.good("medusa-a", "alpha", version="1.2"), plugins.good("medusa-b", "beta")], ALL
    )
    owner = host.owner(host.tasks.get("alpha"))
    assert (owner.plugin, owner.distribution, owner.version) == ("medusa-a", "medusa-a", "1.2")
    assert host.owner(plugins.make_task("beta")).distribution == "medusa-b"
    with pytest.raises(PluginError, match="No plugin provides 'stranger'"):
        host.owner(plugins.make_task("stranger"))


def test_implementations_are_imported_on_demand_and_failures_name_the_plugin(plugins):
    module = plugins.make_plugin(
        [
            plugins.make_task("fine", implementation="json:JSONDecoder"),
            plugins.make_task("gone", implementation="a_package_nobody_has:Task"),
            plugins.make_task("renamed", implementation="json:NoSuchClass"),
        ]
    )
    host = load_host([plugins.entry_point("medusa-a", module)], ALL)
    assert host.implementation(host.tasks.get("fine")).__name__ == "JSONDecoder"
    assert host.config_model(host.tasks.get("fine")) is None
    for name in ("gone", "renamed"):
        with pytest.raises(
            PluginError, match="Plugin medusa-a 1.0 failed in the import of"
        ) as caught:
            host.implementation(host.tasks.get(name))
        assert isinstance(caught.value.__cause__, (ImportError, AttributeError))


def test_settings_that_are_no_model_name_the_plugin(plugins):
    module = plugins.make_plugin([plugins.make_task("odd", config_model="builtins:dict")])
    host = load_host([plugins.entry_point("medusa-a", module)], ALL)
    with pytest.raises(PluginError, match="Plugin medusa-a 1.0 failed in task 'odd': Attribute"):
        make_task(host, host.tasks.get("odd"))


def test_the_default_host_is_loaded_once_and_warns_about_each_broken_plugin(plugins, monkeypatch):
    points = [plugins.good("medusa-a", "alpha"), plugins.bad("import_error")]
    monkeypatch.setattr(discovery.importlib.metadata, "entry_points", lambda group: points)
    default_host.cache_clear()
    with pytest.warns(MedusaWarning, match="medusa-import-error 1.0 is broken"):
        first = default_host()
    assert default_host() is first
    assert points[0].loads == 1


def test_stdout_is_what_it_was_after_redirections_that_overlap():
    before, first, second = sys.stdout, stdout_to_stderr(), stdout_to_stderr()
    first.__enter__()
    second.__enter__()
    assert sys.stdout is sys.stderr
    first.__exit__(None, None, None)  # in another order, as threads do
    assert sys.stdout is sys.stderr
    second.__exit__(None, None, None)
    assert sys.stdout is before
