"""Observers and `medusa_locate_weights`: who is called, in which order, and what failures cost."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.torch import save_file

from medusa_core.api import HeadAdded, HeadEvaluated, HeadRemoved, WeightsRequest, hookimpl
from medusa_core.errors import MedusaWarning, WeightsError
from medusa_core.plugin_host import PluginSettings, hookspecs, load_host
from medusa_core.plugin_host.host import OBSERVERS
from medusa_core.plugin_host.loading import HOOKS, REGISTRATIONS

ALL = PluginSettings()
EVENTS = (
    HeadAdded(Path("m"), "depth", "depth", "medusa-a", "1.0"),
    HeadRemoved(Path("m"), "depth"),
    HeadEvaluated(Path("m"), "depth", "depth", ("rooms",), "val", 3),
)
REQUEST = WeightsRequest("resnet18", "timm/resnet18")


def plugin(**hooks):
    module = ModuleType("plugin")
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function))
    return module


def host(plugins, **by_name):
    points = [plugins.entry_point(name, module) for name, module in by_name.items()]
    return load_host(points, ALL)


def test_every_hook_is_a_registration_an_observer_or_the_one_question():
    registrations = {hook for hook, _ in REGISTRATIONS.values()}
    assert registrations | set(OBSERVERS.values()) | {"medusa_locate_weights"} == set(HOOKS)
    assert all(getattr(hookspecs, hook).__doc__ for hook in HOOKS)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_all_observers_of_an_event_are_called_in_order_and_no_others(plugins, event):
    calls = []
    every = plugin(
        **{hook: lambda event: calls.append(("b", event)) for hook in OBSERVERS.values()}
    )
    one = plugin(**{OBSERVERS[type(event)]: lambda event: calls.append(("a", event))})
    bare = plugin(**{OBSERVERS[type(event)]: lambda: calls.append(("c", None))})
    host(plugins, c=bare, b=every, a=one).tell(event)
    assert calls == [("a", event), ("b", event), ("c", None)]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_cannot_be_changed_by_an_observer(event):
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
    if hasattr(event, "metrics"):
        with pytest.raises(TypeError):
            event.metrics["mae"] = 0.0


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), SystemExit(3), MemoryError(), BaseException()]
)
def test_an_observer_that_fails_is_warned_of_and_the_next_one_called(plugins, error):
    calls = []

    def bad(event):
        raise error

    both = host(
        plugins,
        a=plugin(medusa_head_removed=bad),
        b=plugin(medusa_head_removed=lambda event: calls.append(event)),
    )
    with pytest.warns(
        MedusaWarning, match=r"Plugin a 1.0: medusa_head_removed failed: \w+"
    ) as told:
        both.tell(EVENTS[1])
    assert len(told) == 1
    assert calls == [EVENTS[1]]


def test_ctrl_c_in_an_observer_is_ctrl_c(plugins):
    def bad(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host(plugins, a=plugin(medusa_head_removed=bad)).tell(EVENTS[1])


def test_an_optional_hook_of_another_host_is_no_mistake(plugins):
    module = ModuleType("plugin")
    module.medusa_of_the_future = hookimpl(optionalhook=True)(lambda: None)
    assert not load_host([plugins.entry_point("a", module)], ALL).warnings


def test_weights_are_those_of_the_first_plugin_that_has_them(plugins):
    asked = []

    def locate(name, answer):
        def medusa_locate_weights(request):
            asked.append((name, request))
            return answer

        return plugin(medusa_locate_weights=medusa_locate_weights)

    found = host(
        plugins, c=locate("c", "/c"), b=locate("b", Path("/b")), a=locate("a", None)
    ).locate_weights(REQUEST)
    assert found is not None
    assert (found[0], found[1].distribution) == (Path("/b"), "b")
    assert asked == [("a", REQUEST), ("b", REQUEST)]
    assert host(plugins, a=locate("a", None)).locate_weights(REQUEST) is None


def test_a_mirror_that_fails_or_talks_nonsense_is_passed_over(plugins):
    def down(request):
        raise ConnectionError("the mirror is down")

    mirrors = host(
        plugins,
        a=plugin(medusa_locate_weights=down),
        b=plugin(medusa_locate_weights=lambda: 7),
        c=plugin(medusa_locate_weights=lambda: "/c"),
    )
    with pytest.warns(MedusaWarning) as told:
        found = mirrors.locate_weights(REQUEST)
    assert found is not None
    assert found[0] == Path("/c")
    assert [str(warning.message) for warning in told] == [
        "Plugin a 1.0: medusa_locate_weights failed: ConnectionError: the mirror is down.",
        "Plugin b 1.0: medusa_locate_weights returned 7, not a path.",
    ]


def test_init_takes_pretrained_weights_from_a_plugin(plugins, tmp_path, monkeypatch):
    """No network: what a mirror has is checked like any file, and recorded with its source."""
    from medusa_core.backbones import timm_backbone
    from medusa_core.workflows.init import init

    net = timm_backbone.build(timm_backbone.describe("test_resnet"))
    file = tmp_path / "mirror.safetensors"
    save_file({key: x.contiguous() for key, x in net.net.state_dict().items()}, file)
    mirror = host(plugins, mirror=plugin(medusa_locate_weights=lambda request: file))
    result = init(tmp_path / "model", backbone="test_resnet", pretrained=True, host=mirror)
    record = json.loads((tmp_path / "model" / "model.json").read_text())["backbone"]
    assert record["provenance"]["source"] == "pretrained, from mirror 1.0"
    assert result["backbone"]["fingerprint"] == record["fingerprint"]

    file.write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        init(tmp_path / "other", backbone="test_resnet", pretrained=True, host=mirror)
    assert not (tmp_path / "other").exists()
