"""`medusa doctor`: is everything here that Medusa needs? Each check stands alone."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from medusa_core.errors import MedusaError, PluginError
from medusa_core.plugin_host import PluginSettings, load_host
from medusa_core.plugin_host.discovery import DISTRIBUTION
from medusa_core.plugin_host.host import Host
from medusa_core.plugin_host.importing import FAILURES, describe

LITTLE_SPACE = 2 << 30
"""Free bytes below which trainings may fill the disk."""


@dataclass(frozen=True)
class Finding:
    """What a check found. state: "ok", "note" (worth knowing) or "problem"."""

    name: str
    state: str
    message: str
    hint: str | None = None


def doctor(model: str | Path = "medusa-model") -> dict[str, Any]:
    """Check packages, devices, plugins, the cache, and the model folder where there is one.

    Nothing is changed, and `medusa verify` goes deeper into the model.

    Args:
        model: a model folder, or where one would be.

    Returns:
        `ok`, and `checks`: name, state ("ok", "note" or "problem"), message and hint.
    """
    findings: list[Finding] = []
    host = functools.cache(_host)
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": _packages,
        "torch": _torch,
        "plugins": lambda: _plugins(host()),
        "cache": _cache,
        "model": lambda: _model(Path(model), host),
    }
    for name, check in checks.items():
        try:
            findings += check()
        except MedusaError as err:
            findings.append(Finding(name, "problem", err.message, err.hint))
        except FAILURES as err:
            findings.append(Finding(name, "problem", describe(err)))
    return {
        "ok": all(finding.state != "problem" for finding in findings),
        "checks": [asdict(finding) for finding in findings],
    }


def _packages() -> Iterator[Finding]:
    """Python, and every required package at a version that is new enough."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    for text in importlib.metadata.requires(DISTRIBUTION) or ():
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate():
            continue  # an extra
        pip = f"pip install {str(need).partition(';')[0]!r}"
        try:
            found = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(need.name, "problem", "is not installed", pip)
            continue
        fits = need.specifier.contains(found, prereleases=True)
        state = "ok" if fits else "problem"
        yield Finding(
            need.name,
            state,
            found if fits else f"{found}, {need.specifier} is needed",
            None if fits else pip,
        )


def _torch() -> Iterator[Finding]:
    """That torch, torchvision and timm can be imported together, and what torch computes on."""
    import torch

    try:
        importlib.import_module("torchvision")
    except FAILURES as err:
        yield Finding(
            "torch and torchvision",
            "problem",
            f"torchvision does not go with this torch: {describe(err)}",
            "Install both from one index: pip install --force-reinstall torch torchvision",
        )
    else:
        yield Finding("torch and torchvision", "ok", "go together")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("devices", "ok", f"cuda: {', '.join(names)}")
    else:
        threads = torch.get_num_threads()
        yield Finding("devices", "ok", f"cpu, {threads} thread{'s' if threads > 1 else ''}")


def _plugins(host: Host) -> Iterator[Finding]:
    """Every plugin that is not loaded or not complete, and a summary of the others."""
    from medusa_core.model.assembly import choose_architecture

    loaded = [report for report in host.reports if report.state == "loaded"]
    for report in host.reports:
        if report.state != "loaded":
            hint = report.remedy if report.failed else None
            yield Finding("plugin", "problem" if report.failed else "note", str(report), hint)
    for registry in (host.tasks, host.heads, host.datasets):
        for conflict in registry.conflicts:
            yield Finding("plugin", "note", conflict.message, conflict.hint)
    for entry in host.tasks:
        try:
            choose_architecture(host, entry.spec, None)
        except MedusaError as err:
            what = f"the default head of {entry.spec.name!r}: {err.message}"
            yield Finding("plugin", "problem", f"Plugin {entry.provider.label}: {what}", err.hint)
    if loaded:
        yield Finding("plugins", "ok", f"loaded: {', '.join(report.name for report in loaded)}")
    else:
        yield Finding("plugins", "problem", "none is loaded", f"pip install {DISTRIBUTION}")


def _host() -> Host:
    """Not strict: a plugin that fails is what is reported here, not what ends it."""
    return load_host(settings=replace(PluginSettings.of_user(), strict=False))


def _cache() -> Iterator[Finding]:
    """Where features are cached, how much is there, and how much more fits."""
    from medusa_core.engine.cache_folder import cache_folder, cache_limit

    folder, limit = cache_folder(), cache_limit()
    used = sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())
    held = f"{folder} holds {used / 1e9:.2f} GB of at most {limit / 1e9:g} GB"
    yield Finding("cache", "ok", held)
    yield _space("cache disk", folder)


def _space(name: str, folder: Path) -> Finding:
    from medusa_core.engine.cache_folder import free_space

    above = (folder, *folder.absolute().parents)
    there = next(path for path in above if os.path.lexists(path))
    if not there.is_dir():
        return Finding(name, "problem", f"{there} is no folder", "Name another place.")
    free = free_space(there)
    message = f"{free / 1e9:.1f} GB free at {there}"
    if not os.access(there, os.W_OK):
        return Finding(name, "problem", f"{there} cannot be written to", "Check its permissions.")
    if free < LITTLE_SPACE:
        return Finding(name, "note", message, "Trainings may need more.")
    return Finding(name, "ok", message)


def _model(model: Path, host: Callable[[], Host]) -> Iterator[Finding]:
    """The heads of the model folder, those that are damaged, unfinished trainings, the disk."""
    from medusa_core.engine import checkpoint
    from medusa_core.model.assembly import find_task
    from medusa_core.store import files
    from medusa_core.store.folder import ModelFolder
    from medusa_core.store.layout import Layout

    if not files.exists(model):
        yield Finding("model", "note", f"There is none at {model}.", "medusa init, or add-task")
        return
    with ModelFolder.open(model) as folder:
        heads = ", ".join(sorted(folder.heads)) or "none"
        yield Finding("model", "ok", f"{model}: {folder.manifest.backbone.name}; heads: {heads}")
        for name, error in folder.damaged.items():
            yield Finding(f"head {name}", "problem", error.message, error.hint)
        for name, stored in folder.heads.items():
            try:
                find_task(host(), name, stored)
            except PluginError as orphaned:
                yield Finding(f"head {name}", "note", orphaned.message, orphaned.hint)
    work = [e.name for e in files.children(Layout(model).all_work) if checkpoint.exists(e)]
    if work:
        hint = "Go on with medusa add-task … --resume, or train-backbone … --resume."
        yield Finding("unfinished trainings", "note", ", ".join(work), hint)
    yield _space("model disk", model)
