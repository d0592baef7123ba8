"""Finds the installed plugins, loads them one by one, and freezes what they provide."""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import pluggy

import medusa_core
from medusa_core.api import API_VERSION, DatasetSpec, HeadSpec, TaskSpec
from medusa_core.errors import MedusaWarning, PluginError
from medusa_core.plugin_host import hookspecs
from medusa_core.plugin_host.importing import FAILURES, describe, resolve, stdout_to_stderr
from medusa_core.plugin_host.registry import Entry, Registry
from medusa_core.plugin_host.report import PluginReport, PluginState, Provider
from medusa_core.plugin_host.settings import ALLOW, DISABLE, PluginSettings, normalise

GROUP = "medusa.plugins"
DISTRIBUTION = "medusa-heads"

Spec = TaskSpec | HeadSpec | DatasetSpec

REGISTRATIONS: dict[str, tuple[str, type[Spec]]] = {
    "task": ("medusa_register_tasks", TaskSpec),
    "head architecture": ("medusa_register_heads", HeadSpec),
    "data set": ("medusa_register_datasets", DatasetSpec),
}
"""Kind → (hook that registers it, what the hook returns)."""


class EntryPoint(Protocol):
    """The part of `importlib.metadata.EntryPoint` the host uses."""

    @property
    def name(self) -> str:
        """Name of the plugin."""

    @property
    def value(self) -> str:
        """Module (or `module:attribute`) that holds the hooks."""

    @property
    def dist(self) -> Any:
        """Distribution it belongs to: an object with `name`, `version` and `requires`."""

    def load(self) -> Any:
        """Import it."""


class _IncompatibleError(Exception):
    """The plugin was written for another version of the host."""


@dataclass(frozen=True)
class Host:
    """What can be used, and what became of every plugin. Build one with `load_host`.

    notes: one line for each name in the settings that no plugin has.
    """

    tasks: Registry[TaskSpec]
    heads: Registry[HeadSpec]
    datasets: Registry[DatasetSpec]
    reports: tuple[PluginReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each plugin that could not be loaded, then the notes."""
        failed = (f"{report}. See: medusa plugins list" for report in self.reports if report.failed)
        return (*failed, *self.notes)

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
        settings: None: those of the environment.

    Raises:
        PluginError: a plugin failed and `settings.strict` is set.
    """
    if entry_points is None:
        entry_points = importlib.metadata.entry_points(group=GROUP)
    settings = settings or PluginSettings.from_environment()
    points = _unique(entry_points)
    plugins = Counter(point.name for point in points)
    loader = _Loader()
    for point in points:
        provider = _provider(point)
        reason = settings.why_disabled(provider.plugin, provider.distribution, plugins)
        if reason is not None:
            loader.reports.append(PluginReport(provider, PluginState.DISABLED, reason))
        elif plugins[point.name] > 1:
            why = f"{plugins[point.name]} entry points are called {point.name!r}; none was loaded"
            loader.reports.append(PluginReport(provider, PluginState.BROKEN, why))
        else:
            loader.load(point, provider)
    host = loader.freeze(_unmatched(settings, points))
    failed = next((report for report in host.reports if report.failed), None)
    if failed is not None and settings.strict:
        raise PluginError(
            f"{failed}.", hint=f"Repair it, or do without: {DISABLE}={failed.name}"
        ) from failed.error
    return host


class _Loader:
    """Loads one plugin after the other and keeps what they provide."""

    def __init__(self) -> None:
        self.reports: list[PluginReport] = []
        self.entries: dict[str, list[Entry[Any]]] = {kind: [] for kind in REGISTRATIONS}

    def load(self, point: EntryPoint, provider: Provider) -> None:
        """Import a plugin and take what it registers: all of it, or nothing and a report."""
        started = time.perf_counter()
        specs: dict[str, list[Spec]] = {}
        error: BaseException | None = None
        try:
            _check_requirement(point)
            with stdout_to_stderr():
                _read(point.load(), specs)
        except FAILURES as caught:
            error = caught
        milliseconds = (time.perf_counter() - started) * 1000
        provides = {kind: tuple(sorted(s.name for s in found)) for kind, found in specs.items()}
        if error is None:
            report = PluginReport(
                provider, PluginState.LOADED, import_ms=milliseconds, provides=provides
            )
            for kind, found in specs.items():
                self.entries[kind] += [Entry(spec, provider) for spec in found]
        else:
            incompatible = isinstance(error, _IncompatibleError)
            report = PluginReport(
                provider,
                PluginState.INCOMPATIBLE if incompatible else PluginState.BROKEN,
                str(error) if incompatible else describe(error),
                error,
                milliseconds,
                provides,
            )
        self.reports.append(report)

    def freeze(self, notes: Iterable[str]) -> Host:
        """The host of everything loaded so far."""
        reports = tuple(sorted(self.reports, key=lambda r: (r.distribution, r.name)))
        tasks, heads, datasets = (
            Registry(kind, entries, reports) for kind, entries in self.entries.items()
        )
        return Host(
            cast("Registry[TaskSpec]", tasks),
            cast("Registry[HeadSpec]", heads),
            cast("Registry[DatasetSpec]", datasets),
            reports,
            tuple(notes),
        )


def _read(plugin: object, specs: dict[str, list[Spec]]) -> None:
    """Call the hooks of one plugin, alone in a manager of its own, and check what they return.

    Specs are added as they are found, so a plugin that fails is known by the names it gave.
    """
    manager = pluggy.PluginManager("medusa")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    _check_hooks(manager, plugin)
    for kind, (hook, expected) in REGISTRATIONS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            found = specs.setdefault(kind, [])
            for spec in _specs(hook, expected, implementation.function()):
                if any(spec.name == other.name for other in found):
                    raise PluginError(f"{hook} returned two specs named {spec.name!r}")
                found.append(spec)
                _check_api(spec)


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse what pluggy accepts in silence: a misspelt hook, a hook without its marker."""
    known = [hook for hook, _ in REGISTRATIONS.values()]
    for caller in manager.get_hookcallers(plugin) or ():
        if not caller.has_spec():
            near = difflib.get_close_matches(caller.name, known, n=1)
            suggestion = f", did you mean {near[0]!r}?" if near else ""
            raise PluginError(f"unknown hook {caller.name!r}{suggestion}")
    for hook in known:
        if hasattr(plugin, hook) and manager.parse_hookimpl_opts(plugin, hook) is None:
            raise PluginError(f"{hook!r} lacks the @hookimpl marker")


def _specs(hook: str, expected: type[Spec], result: object) -> Iterator[Spec]:
    """What a hook returned, item by item, if it is what the hook is for."""
    if not isinstance(result, Iterable) or isinstance(result, (str, Mapping)):
        raise PluginError(
            f"{hook} returned {type(result).__name__}, not a list of {expected.__name__}"
        )
    for spec in result:
        if not isinstance(spec, expected):
            raise PluginError(
                f"{hook} returned a {type(spec).__name__} where a {expected.__name__} was expected"
            )
        yield spec


def _unique(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Entry points in a fixed order, without those that a search path lists twice."""
    seen: dict[tuple[str, str, str], EntryPoint] = {}
    for point in points:
        seen.setdefault((normalise(_provider(point).distribution), point.name, point.value), point)
    return [seen[key] for key in sorted(seen)]


def _provider(point: EntryPoint) -> Provider:
    try:
        return Provider(point.name, point.dist.name, point.dist.version)
    except Exception:  # noqa: BLE001 - no distribution, or one whose metadata is damaged
        return Provider(point.name, point.name, "unknown")


def _unmatched(settings: PluginSettings, points: Iterable[EntryPoint]) -> list[str]:
    """A line for each name in the settings that no installed plugin has."""
    providers = [_provider(point) for point in points]
    installed = {normalise(n) for p in providers for n in (p.plugin, p.distribution)}
    lines = []
    for variable, names in ((ALLOW, settings.allowed or ()), (DISABLE, settings.disabled)):
        for name in sorted(set(names) - installed):
            near = difflib.get_close_matches(name, installed, n=1)
            suggestion = f" Did you mean {near[0]!r}?" if near else ""
            lines.append(f"{variable} names {name!r}, which is not installed.{suggestion}")
    return lines


def _check_requirement(point: EntryPoint) -> None:
    """Refuse, before importing it, a plugin that declares it needs another version of the host."""
    declared = getattr(point.dist, "requires", None) or ()
    mine = [text for text in declared if normalise(text).startswith(DISTRIBUTION)]
    if not mine:
        return
    from packaging.requirements import Requirement

    for requirement in map(Requirement, mine):
        if normalise(requirement.name) != DISTRIBUTION or requirement.marker is not None:
            continue
        if not requirement.specifier.contains(medusa_core.__version__, prereleases=True):
            raise _IncompatibleError(
                f"it needs {DISTRIBUTION}{requirement.specifier}, this is {medusa_core.__version__}"
            )


def _check_api(spec: Spec) -> None:
    """Refuse a spec written for another major, or for a newer minor, of the plugin API."""
    theirs, ours = ([int(part) for part in v.split(".")] for v in (spec.api_version, API_VERSION))
    if theirs[0] != ours[0] or theirs[1] > ours[1]:
        raise _IncompatibleError(
            f"{spec.name!r} speaks plugin API {spec.api_version}, "
            f"{DISTRIBUTION} {medusa_core.__version__} speaks {API_VERSION}"
        )
