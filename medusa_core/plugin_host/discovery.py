"""Which plugins are installed, and what can be said of them without importing them."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import medusa_core
from medusa_core.plugin_host.report import PluginReport, PluginState, Provider
from medusa_core.plugin_host.settings import ALLOW, DISABLE, PluginSettings, normalise

GROUP = "medusa.plugins"
DISTRIBUTION = "medusa-heads"


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


@dataclass(frozen=True)
class Survey:
    """The installed plugins as their metadata shows them, in a fixed order.

    reports: of the points, one by one; "enabled" is what a host would load. notes: a line for each
    name in the environment that no plugin has.
    """

    points: tuple[EntryPoint, ...]
    reports: tuple[PluginReport, ...]
    notes: tuple[str, ...]


def survey(
    points: Iterable[EntryPoint] | None = None, settings: PluginSettings | None = None
) -> Survey:
    """Look at installed plugins without importing any.

    Args:
        points: None: those installed in the group "medusa.plugins".
        settings: None: those of the user.
    """
    settings = settings or PluginSettings.of_user()
    found = _unique(_installed() if points is None else points)
    every = {point.name for point, _ in found}
    disabled = [settings.why_disabled(p.plugin, p.distribution, every) for _, p in found]
    names = Counter(p.name for (p, _), why in zip(found, disabled, strict=True) if why is None)
    reports = tuple(_look(*pair, why, names) for pair, why in zip(found, disabled, strict=True))
    points = tuple(point for point, _ in found)
    return Survey(points, reports, tuple(_unmatched(settings, reports)))


def _look(
    point: EntryPoint, provider: Provider, disabled: str | None, names: Counter[str]
) -> PluginReport:
    if disabled is not None:
        return PluginReport(provider, PluginState.DISABLED, disabled)
    if names[point.name] > 1:
        why = f"{names[point.name]} entry points are called {point.name!r}; none was loaded"
        return PluginReport(provider, PluginState.BROKEN, why)
    unfit = _unfit(point)
    if unfit is not None:
        upgrade = (provider.distribution, DISTRIBUTION)
        return PluginReport(provider, PluginState.INCOMPATIBLE, unfit, upgrade=upgrade)
    return PluginReport(provider, PluginState.ENABLED)


def _installed() -> list[EntryPoint]:
    """Entry points of our group; a distribution whose metadata is damaged hides its own only."""
    try:
        return list(importlib.metadata.entry_points(group=GROUP))
    except Exception:  # noqa: BLE001 - one damaged file spoils the whole answer
        found: list[EntryPoint] = []
        for distribution in importlib.metadata.distributions():
            try:
                found += distribution.entry_points.select(group=GROUP)
            except Exception:  # noqa: BLE001, S112 - nothing of it can be told
                continue
        return found


def _unique(points: Iterable[EntryPoint]) -> list[tuple[EntryPoint, Provider]]:
    """Entry points in a fixed order, without those that a search path lists twice."""
    seen: dict[tuple[str, str, str], tuple[EntryPoint, Provider]] = {}
    for point in points:
        provider = provider_of(point)  # reads a file
        key = (normalise(provider.distribution), point.name, point.value)
        seen.setdefault(key, (point, provider))
    return [seen[key] for key in sorted(seen)]


def provider_of(point: EntryPoint) -> Provider:
    """Who an entry point belongs to."""
    try:
        name, version = str(point.dist.name or point.name), str(point.dist.version or "unknown")
        return Provider(point.name, name, version)
    except Exception:  # noqa: BLE001 - no distribution, or one whose metadata is damaged
        return Provider(point.name, point.name, "unknown")


def _unfit(point: EntryPoint) -> str | None:
    """Why this host is not the one that a plugin declares it needs."""
    try:
        declared = [text for text in point.dist.requires or () if _about_host(text)]
    except Exception:  # noqa: BLE001 - as above
        return None
    if not declared:
        return None
    from packaging.requirements import InvalidRequirement, Requirement

    for text in declared:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            return f"its requirement {text!r} cannot be read"
        if normalise(requirement.name) != DISTRIBUTION or requirement.marker is not None:
            continue
        if not requirement.specifier.contains(medusa_core.__version__, prereleases=True):
            return (
                f"it needs {DISTRIBUTION}{requirement.specifier}, "
                f"{medusa_core.__version__} is installed"
            )
    return None


def _about_host(requirement: str) -> bool:
    return normalise(requirement).startswith(DISTRIBUTION)


def _unmatched(settings: PluginSettings, reports: Iterable[PluginReport]) -> Iterable[str]:
    """A line for each name in the environment that no installed plugin has.

    Not for those in the settings file: they were right once, and would be told of for ever.
    """
    installed = {normalise(n) for r in reports for n in (r.name, r.distribution)}
    lists = (
        (settings.allowed_by, ALLOW, settings.allowed or ()),
        (settings.disabled_by, DISABLE, settings.disabled),
    )
    for source, variable, names in lists:
        if source != variable:
            continue
        for name in sorted(set(names) - installed):
            near = difflib.get_close_matches(name, installed, n=1)
            suggestion = f" Did you mean {near[0]!r}?" if near else ""
            yield f"{source} names {name!r}, which is not installed.{suggestion}"
