"""A plugin that keeps every promise, and copies of it with something changed."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from medusa_core.api import hookimpl

FIXTURES = Path(__file__).parents[3] / "fixtures" / "conformance"


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules `good_plugin` and `good_task`."""
    monkeypatch.syspath_prepend(FIXTURES)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import good_plugin
    import good_task

    return ModuleType("good"), good_plugin, good_task


@pytest.fixture
def variant(good: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Makes a plugin like `good_plugin` whose task, head, or parts of them are others.

    It is imported under the name of the good one, where imports are checked.
    """
    _, plugin, _ = good

    def make(
        task: type | None = None, head: type | None = None, config: type | None = None, **spec: Any
    ) -> ModuleType:
        code = ModuleType("broken_code")
        code.Task, code.Head, code.Config = task, head, config  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "broken_code", code)
        changes = {**spec, **({"implementation": "broken_code:Task"} if task else {})}
        level = plugin.LEVEL.model_copy(update=changes)
        changes = {"implementation": "broken_code:Head"} if head else {}
        changes |= {"config_model": "broken_code:Config"} if config else {}
        architecture = plugin.HEAD.model_copy(update=changes)
        module = ModuleType("good_plugin")
        module.medusa_register_tasks = hookimpl(lambda: [level])  # type: ignore[attr-defined]
        module.medusa_register_heads = hookimpl(lambda: [architecture])  # type: ignore[attr-defined]
        return module

    return make


def with_metric(good, metric):
    class Broken(good.Level):
        def new_metrics(self):
            return [metric()]

    return Broken
