"""`medusa plugins …`: what is installed, and which of it the user wants. Imports no plugin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from medusa_core.errors import UnknownNameError
from medusa_core.plugin_host.discovery import DISTRIBUTION, EntryPoint, Survey, survey
from medusa_core.plugin_host.report import Provider
from medusa_core.plugin_host.settings import PluginSettings, normalise
from medusa_core.settings import read_settings, write_settings


def choose(found: Survey, names: Iterable[str]) -> list[int]:
    """Positions in a survey of the plugins of these names (of entry points or distributions).

    Raises:
        UnknownNameError: none is installed that is called so.
    """
    chosen: dict[int, None] = {}
    for name in names:
        named = _named(found, name)
        if not named:
            known = sorted({n for r in found.reports for n in (r.name, r.distribution)})
            raise UnknownNameError("plugin", name, known, hint="See: medusa plugins list")
        chosen |= dict.fromkeys(named)
    return list(chosen)


def _named(found: Survey, name: str) -> list[int]:
    """Positions of the entry points of a name, or else of those of the distribution so called."""
    wanted = normalise(name)
    by_point = [i for i, r in enumerate(found.reports) if normalise(r.name) == wanted]
    by_owner = [i for i, r in enumerate(found.reports) if normalise(r.distribution) == wanted]
    return by_point or by_owner


def disable(names: Sequence[str]) -> dict[str, Any]:
    """Write into the settings file that plugins are not to be loaded.

    Returns:
        The file, the names it disables now, and what goes before it.

    Raises:
        UnknownNameError: a plugin of that name is not installed; then nothing is changed.
        UsageError: the file cannot be read or written.
    """
    found = survey()
    choose(found, names)
    return _write([*read_settings().plugins.disabled, *names])


def enable(names: Sequence[str]) -> dict[str, Any]:
    """Take plugins off the list of the settings file, by whichever of their names; see `disable`.

    Where the list names the distribution of a plugin, the others of it stay disabled.

    Raises:
        UnknownNameError: it is neither on the list nor installed.
    """
    found, disabled = survey(), read_settings().plugins.disabled
    given, listed = {normalise(name) for name in names}, {normalise(name) for name in disabled}
    choose(found, [name for name in names if normalise(name) not in listed])
    enabled = {found.reports[i].name for name in names for i in _named(found, name)}
    left: list[str] = []
    for name in disabled:
        held = {found.reports[i].name for i in _named(found, name)}
        if held & enabled:
            left += held - enabled
        elif normalise(name) not in given:
            left.append(name)
    return _write(left)


def _write(disabled: Iterable[str]) -> dict[str, Any]:
    settings = read_settings()
    unique = {normalise(name): name for name in disabled}
    part = settings.plugins.model_copy(update={"disabled": sorted(unique.values())})
    path = write_settings(settings.model_copy(update={"plugins": part}))
    user = PluginSettings.of_user()
    return {
        "settings": path,
        "disabled": part.disabled,
        "overridden_by": None if user.disabled_by == str(path) else user.disabled_by,
    }


def requirements(found: Survey) -> list[str]:
    """Lines for `pip install -r` that bring back every distribution with a plugin, but the host."""
    lines = {}
    for point, report in zip(found.points, found.reports, strict=True):
        if normalise(report.distribution) != DISTRIBUTION:
            lines[normalise(report.distribution)] = _requirement(point, report.provider)
    return [lines[name] for name in sorted(lines)]


def _requirement(point: EntryPoint, provider: Provider) -> str:
    """As `pip freeze` writes it: a distribution that came from a place is named with it."""
    pinned = provider.distribution
    if provider.version != "unknown":
        pinned = f"{provider.distribution}=={provider.version}"
    try:
        origin = json.loads(point.dist.read_text("direct_url.json") or "null")
        if origin is None:
            return pinned
        url = origin["url"]
        if origin.get("dir_info", {}).get("editable"):
            return f"-e {url}"
        if "vcs_info" in origin:
            url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
        if "subdirectory" in origin:
            url = f"{url}#subdirectory={origin['subdirectory']}"
        return f"{provider.distribution} @ {url}"
    except Exception:  # noqa: BLE001 - metadata that is damaged or absent
        return pinned
