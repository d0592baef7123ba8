"""The host: everything the installed plugins provide, frozen, and what became of each of them."""

from __future__ import annotations

import functools
import os
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from medusa_core.api import (
    DatasetSpec,
    HeadAdded,
    HeadEvaluated,
    HeadRemoved,
    HeadSpec,
    TaskSpec,
    WeightsRequest,
)
from medusa_core.errors import MedusaWarning, PluginError
from medusa_core.plugin_host.discovery import EntryPoint, survey
from medusa_core.plugin_host.importing import describe, resolve, stdout_to_stderr
from medusa_core.plugin_host.loading import REGISTRATIONS, Spec, load_plugin
from medusa_core.plugin_host.registry import Entry, Registry
from medusa_core.plugin_host.report import PluginReport, PluginState, Provider
from medusa_core.plugin_host.settings import PluginSettings

Event = HeadAdded | HeadRemoved | HeadEvaluated

OBSERVERS: dict[type[Event], str] = {
    HeadAdded: "medusa_head_added",
    HeadRemoved: "medusa_head_removed",
    HeadEvaluated: "medusa_head_evaluated",
}
"""Event → the hook that is told of it."""

_SEE = "What to do about each: medusa plugins list"
Hook = tuple[Provider, Callable[[object], object]]


@dataclass(frozen=True)
class Host:
    """What can be used, and what became of every plugin. Build one with `load_host`.

    notes: one line for each name in the environment that no plugin has.
    hooks: name → who implements it and how, in the order of `reports`.
    """

    tasks: Registry[TaskSpec]
    heads: Registry[HeadSpec]
    datasets: Registry[DatasetSpec]
    reports: tuple[PluginReport, ...]
    notes: tuple[str, ...] = ()
    hooks: Mapping[str, tuple[Hook, ...]] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each plugin that could not be loaded, then the notes."""
        failed = (
            f"{report}. See: medusa plugins doctor {shlex.quote(report.name)}"
            for report in self.reports
            if report.failed
        )
        return (*failed, *self.notes)

    def unloaded(self, distribution: str) -> tuple[str, str] | None:
        """What of an installed distribution was not loaded, and what to do; None: nothing."""
        reports = [
            report
            for report in self.reports
            if report.distribution == distribution and report.state is not PluginState.LOADED
        ]
        if len(reports) < 2:
            return (str(reports[0]), reports[0].remedy) if reports else None
        names = ", ".join(report.name for report in reports)
        why = "; ".join(dict.fromkeys(r.why or str(r.state) for r in reports))
        return f"Plugins of {distribution} are not loaded: {names} ({why})", _SEE

    def owner(self, spec: Spec) -> Provider:
        """The distribution (and its version) that provides a spec of this host."""
        entries: list[Entry[Any]] = [*self.tasks, *self.heads, *self.datasets]
        for entry in entries:
            if entry.spec is spec:
                return entry.provider
        for entry in entries:
            if entry.spec == spec:
                return entry.provider
        raise PluginError(f"No plugin provides {spec.name!r}.", hint="See: medusa plugins list")

    def implementation(self, spec: Spec) -> Any:
        """The class or function that a spec names; imports the plugin's heavy modules.

        Raises:
            PluginError: it cannot be imported.
        """
        return resolve(spec.implementation, self.owner(spec))

    def config_model(self, spec: TaskSpec | HeadSpec) -> Any:
        """The pydantic model of a spec's configuration, None where it has none.

        Raises:
            PluginError: it cannot be imported.
        """
        if spec.config_model is None:
            return None
        return resolve(spec.config_model, self.owner(spec))

    def tell(self, event: Event) -> None:
        """Call the observers of an event. One that fails is warned of and breaks nothing."""
        for _ in self._answers(OBSERVERS[type(event)], event):
            pass

    def locate_weights(self, request: WeightsRequest) -> tuple[Path, Provider] | None:
        """The file that the first plugin to have one gives for pretrained weights, and who did.

        A plugin that fails is warned of, and the next one is asked.
        """
        for provider, answer in self._answers("medusa_locate_weights", request):
            if isinstance(answer, (str, os.PathLike)):
                return Path(answer), provider
            if answer is not None:
                self._complain(provider, f"medusa_locate_weights returned {answer!r}, not a path")
        return None

    def _answers(self, hook: str, argument: object) -> Iterator[tuple[Provider, object]]:
        """What each implementation of a hook returns; those that fail are warned of."""
        for provider, function in self.hooks.get(hook, ()):
            try:
                with stdout_to_stderr():
                    answer = function(argument)
            except KeyboardInterrupt:
                raise
            except BaseException as err:  # noqa: BLE001 - nothing depends on it
                self._complain(provider, f"{hook} failed: {describe(err)}")
            else:
                yield provider, answer

    def _complain(self, provider: Provider, what: str) -> None:
        warnings.warn(f"Plugin {provider.label}: {what}.", MedusaWarning, stacklevel=4)


@functools.cache
def default_host() -> Host:
    """The host of this process: installed plugins and the user's settings.

    Warns about every plugin that could not be loaded.
    """
    host = load_host()
    for line in host.warnings:
        warnings.warn(line, MedusaWarning, stacklevel=2)
    return host


def load_host(
    entry_points: Iterable[EntryPoint] | None = None, settings: PluginSettings | None = None
) -> Host:
    """Load plugins. A plugin that fails is reported and does not disturb the others.

    Args:
        entry_points: None: those installed in the group "medusa.plugins".
        settings: None: those of the user.

    Raises:
        PluginError: a plugin failed and `settings.strict` is set.
    """
    settings = settings or PluginSettings.of_user()
    found = survey(entry_points, settings)
    reports: list[PluginReport] = []
    entries: dict[str, list[Entry[Any]]] = {kind: [] for kind in REGISTRATIONS}
    hooks: dict[str, list[Hook]] = {}
    for point, report in zip(found.points, found.reports, strict=True):
        if report.state is PluginState.ENABLED:
            report, loaded = load_plugin(point, report.provider)
            if not report.failed:
                for kind, specs in loaded.specs.items():
                    entries[kind] += [Entry(spec, report.provider) for spec in specs]
                for name, function in loaded.hooks:
                    hooks.setdefault(name, []).append((report.provider, function))
        if report.failed and settings.strict:
            raise PluginError(
                f"{report}.",
                hint=report.remedy,
            ) from report.error
        reports.append(report)
    return _freeze(entries, reports, found.notes, hooks)


def _freeze(
    entries: Mapping[str, list[Entry[Any]]],
    reports: Iterable[PluginReport],
    notes: tuple[str, ...],
    hooks: Mapping[str, list[Hook]],
) -> Host:
    reports = tuple(reports)
    tasks, heads, datasets = (Registry(kind, found, reports) for kind, found in entries.items())
    return Host(
        cast("Registry[TaskSpec]", tasks),
        cast("Registry[HeadSpec]", heads),
        cast("Registry[DatasetSpec]", datasets),
        reports,
        notes,
        {name: tuple(found) for name, found in hooks.items()},
    )
