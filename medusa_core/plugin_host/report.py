"""What became of each installed plugin."""

from __future__ import annotations

import shlex
import traceback as tb
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from medusa_core.plugin_host.settings import ALLOW, DISABLE


class PluginState(StrEnum):
    """Whether a plugin's tasks, heads and data sets can be used; enabled: nobody has tried yet."""

    ENABLED = "enabled"
    LOADED = "loaded"
    DISABLED = "disabled"
    INCOMPATIBLE = "incompatible"
    BROKEN = "broken"


@dataclass(frozen=True)
class Provider:
    """Where a spec comes from: an entry point and the distribution that holds it."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def label(self) -> str:
        """For messages: the name of the plugin too, where it is not that of the distribution."""
        return str(self) if self.plugin == self.distribution else f"{self.plugin} of {self}"

    @property
    def without(self) -> str:
        """The command that makes do without it."""
        return f"medusa plugins disable {shlex.quote(self.plugin)}"


@dataclass(frozen=True)
class PluginReport:
    """One entry point: its state and, unless loaded, why.

    provides: kind ("task", "head architecture", "data set") → names, as far as the plugin came
        to name them.
    error: the plugin's own exception. import_ms: None where it was not imported.
    upgrade: distributions of which a later version may fit where this one is incompatible.
    """

    provider: Provider
    state: PluginState
    why: str | None = None
    error: BaseException | None = None
    import_ms: float | None = None
    provides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    upgrade: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return self.provider.plugin

    @property
    def distribution(self) -> str:
        """Name of the distribution."""
        return self.provider.distribution

    @property
    def version(self) -> str:
        """Version of the distribution."""
        return self.provider.version

    @property
    def failed(self) -> bool:
        """Whether the plugin was wanted and could not be loaded."""
        return self.state in (PluginState.INCOMPATIBLE, PluginState.BROKEN)

    @property
    def traceback(self) -> str | None:
        """Where the plugin failed, formatted."""
        if self.error is None:
            return None
        return "".join(tb.format_exception(self.error))

    @property
    def remedy(self) -> str:
        """What to do about it, and how to find out more."""
        if self.state is not PluginState.BROKEN:
            return self.way_out
        return f"For the traceback: medusa plugins doctor {shlex.quote(self.name)}. {self.way_out}"

    @property
    def way_out(self) -> str:
        """What to do about it."""
        if self.state is PluginState.DISABLED:
            variable = (self.why or "").rpartition(" ")[2]
            if variable in (ALLOW, DISABLE):  # goes before the settings
                return f"To have it: change or unset {variable}"
            return f"To have it: medusa plugins enable {shlex.quote(self.name)}"
        if self.state is PluginState.INCOMPATIBLE:
            wanted = " ".join(map(shlex.quote, self.upgrade or (self.distribution,)))
            return f"Run: pip install --upgrade {wanted}. To do without it: {self.provider.without}"
        return f"To do without it: {self.provider.without}"

    def __str__(self) -> str:
        text = f"Plugin {self.provider.label} is {self.state}"
        return f"{text}: {self.why}" if self.why else text
