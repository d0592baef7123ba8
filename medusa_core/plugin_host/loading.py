"""Importing one plugin and taking what it provides: all of it, or nothing and the reason."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pluggy
from pydantic import BaseModel

import medusa_core
from medusa_core.api import API_VERSION, DatasetSpec, HeadSpec, TaskSpec
from medusa_core.api.hooks import ApiVersionError, speaks
from medusa_core.errors import PluginError
from medusa_core.plugin_host import hookspecs
from medusa_core.plugin_host.discovery import DISTRIBUTION, EntryPoint
from medusa_core.plugin_host.importing import describe, named_when_slow, stdout_to_stderr
from medusa_core.plugin_host.report import PluginReport, PluginState, Provider

Spec = TaskSpec | HeadSpec | DatasetSpec

REGISTRATIONS: dict[str, tuple[str, type[Spec]]] = {
    "task": ("medusa_register_tasks", TaskSpec),
    "head architecture": ("medusa_register_heads", HeadSpec),
    "data set": ("medusa_register_datasets", DatasetSpec),
}
"""Kind → (hook that registers it, what the hook returns)."""

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("medusa_"))


@dataclass
class Loaded:
    """What a plugin gave so far.

    specs: kind → descriptions. hooks: (name of another hook, the plugin's function for it, which
    takes one argument).
    """

    specs: dict[str, list[Spec]] = field(default_factory=dict)
    hooks: list[tuple[str, Callable[[object], object]]] = field(default_factory=list)


def load_plugin(point: EntryPoint, provider: Provider) -> tuple[PluginReport, Loaded]:
    """Import a plugin and take what it registers; of one that fails, only the report counts.

    Raises:
        KeyboardInterrupt: somebody had no patience with it.
    """
    started = time.perf_counter()
    loaded = Loaded()
    error: BaseException | None = None
    try:
        with stdout_to_stderr(), named_when_slow(provider):
            _read(point.load(), loaded)
    except KeyboardInterrupt:
        raise
    except BaseException as caught:  # noqa: BLE001 - SystemExit, panics of compiled modules, …
        error = caught
    milliseconds = (time.perf_counter() - started) * 1000
    names = {kind: tuple(sorted(s.name for s in specs)) for kind, specs in loaded.specs.items()}
    state, why, upgrade = PluginState.LOADED, None, provider.distribution
    if isinstance(error, ApiVersionError):
        state = PluginState.INCOMPATIBLE
        why = f"{error}, {DISTRIBUTION} {medusa_core.__version__} speaks {API_VERSION}"
        upgrade = DISTRIBUTION if error.newer else upgrade
    elif error is not None:
        state = PluginState.BROKEN
        why = describe(error)
    return PluginReport(provider, state, why, error, milliseconds, names, (upgrade,)), loaded


def _read(plugin: object, loaded: Loaded) -> None:
    """Take the hooks of one plugin, alone in a manager of its own, and check what they return.

    Specs are added as they are found, so a plugin that fails is known by the names it gave.
    """
    manager = pluggy.PluginManager("medusa")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name="plugin")
    except pluggy.PluginValidationError as err:
        reason = str(err).splitlines()[-1]
        raise PluginError(f"a hook has a wrong signature: {reason}") from err
    _check_hooks(manager, plugin)
    for kind, (hook, expected) in REGISTRATIONS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            found = loaded.specs.setdefault(kind, [])
            for spec in _specs(hook, expected, implementation.function()):
                if any(spec.name == other.name for other in found):
                    raise PluginError(f"{hook} returned two specs named {spec.name!r}")
                found.append(spec)
                if not speaks(spec.api_version):
                    raise ApiVersionError(spec.name, spec.api_version)
    registering = {hook for hook, _ in REGISTRATIONS.values()}
    for hook in HOOKS:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if hook not in registering:
                loaded.hooks.append((hook, _with_one_argument(implementation)))


def _with_one_argument(implementation: pluggy.HookImpl) -> Callable[[object], object]:
    """A hook may leave out its argument, as everywhere in pluggy."""
    if implementation.argnames:
        return implementation.function
    return lambda _: implementation.function()


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse what pluggy accepts in silence: a misspelt hook, a hook without its marker."""
    for caller in manager.get_hookcallers(plugin) or ():
        optional = all(implementation.optionalhook for implementation in caller.get_hookimpls())
        if not caller.has_spec() and not optional:
            near = difflib.get_close_matches(caller.name, HOOKS, n=1)
            suggestion = f", did you mean {near[0]!r}?" if near else ""
            raise PluginError(f"unknown hook {caller.name!r}{suggestion}")
    for hook in HOOKS:
        if hasattr(plugin, hook) and manager.parse_hookimpl_opts(plugin, hook) is None:
            raise PluginError(f"{hook!r} lacks the @hookimpl marker")


def _specs(hook: str, expected: type[Spec], result: object) -> Iterator[Spec]:
    """What a hook returned, item by item, if it is what the hook is for."""
    if not isinstance(result, Iterable) or isinstance(result, (str, Mapping, BaseModel)):
        raise PluginError(
            f"{hook} returned {type(result).__name__}, not a list of {expected.__name__}"
        )
    for spec in result:
        if not isinstance(spec, expected):
            raise PluginError(
                f"{hook} returned a {type(spec).__name__} where a {expected.__name__} was expected"
            )
        yield _valid(hook, expected, spec)


def _valid(hook: str, expected: type[Spec], spec: Spec) -> Spec:
    """A spec as it was declared, checked again: pydantic lets copies and constructions pass."""
    try:
        return expected.model_validate(spec.model_dump(warnings=False))
    except Exception as err:
        raise PluginError(f"{hook} returned a spec that is not valid: {describe(err)}") from err
