"""Plugins made up on the spot, good ones and those of tests/fixtures/bad_plugins."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from medusa_core.api import (
    DatasetSpec,
    HeadSpec,
    MetricRef,
    OutputSpec,
    TargetSpec,
    TaskSpec,
    hookimpl,
)

BAD_PLUGINS = Path(__file__).parents[3] / "fixtures" / "bad_plugins"


@dataclass
class FakeEntryPoint:
    """What `importlib.metadata` would find; `loads` counts the imports."""

    name: str
    loader: Callable[[], Any]
    dist: Any
    loads: int = 0

    @property
    def value(self) -> str:
        return f"{self.name}.plugin"

    def load(self) -> Any:
        self.loads += 1
        return self.loader()


def make_task(name: str, **changes: Any) -> TaskSpec:
    fields = {
        "title": name,
        "implementation": f"{name}_package:Task",
        "output": OutputSpec(channels=1),
        "target": TargetSpec(),
        "metrics": (MetricRef(name="mae", higher_is_better=False, primary=True),),
    }
    return TaskSpec(name=name, **{**fields, **changes})


def make_plugin(
    tasks: Sequence[TaskSpec] = (),
    heads: Sequence[HeadSpec] = (),
    datasets: Sequence[DatasetSpec] = (),
) -> ModuleType:
    module = ModuleType("plugin")
    for hook, specs in (
        ("medusa_register_tasks", tasks),
        ("medusa_register_heads", heads),
        ("medusa_register_datasets", datasets),
    ):

        def implementation(specs: Sequence[Any] = specs) -> Sequence[Any]:
            return specs

        setattr(module, hook, hookimpl(implementation))
    return module


def entry_point(
    name: str,
    loader: Callable[[], Any] | ModuleType,
    dist: str | None = None,
    version: str = "1.0",
    requires: Sequence[str] = (),
) -> FakeEntryPoint:
    found = SimpleNamespace(name=dist or name, version=version, requires=list(requires))
    return FakeEntryPoint(
        name, (lambda: loader) if isinstance(loader, ModuleType) else loader, found
    )


def good(name: str, *tasks: str, **options: Any) -> FakeEntryPoint:
    return entry_point(name, make_plugin([make_task(task) for task in tasks]), **options)


def bad(file: str, name: str | None = None, **options: Any) -> FakeEntryPoint:
    """The plugin of one of the files in fixtures/bad_plugins, called `medusa-<file>`."""

    def load() -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"bad_{file}", BAD_PLUGINS / f"{file}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return entry_point(name or f"medusa-{file.replace('_', '-')}", load, **options)


@pytest.fixture(scope="session")
def plugins() -> SimpleNamespace:
    return SimpleNamespace(
        bad=bad,
        entry_point=entry_point,
        good=good,
        make_plugin=make_plugin,
        make_task=make_task,
        bad_files=sorted(path.stem for path in BAD_PLUGINS.glob("*.py")),
    )


@pytest.fixture(autouse=True)
def no_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
