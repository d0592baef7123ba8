"""What became of each installed plugin."""

from __future__ import annotations

import traceback as tb
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PluginState(StrEnum):
    """Whether a plugin's tasks, heads and data sets can be used."""

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


@dataclass(frozen=True)
class PluginReport:
    """One entry point: its state and, unless loaded, why.

    provides: kind ("task", "head architecture", "data set") → names, as far as the plugin came
        to name them.
    error: the plugin's own exception. import_ms: None where it was not imported.
    """

    provider: Provider
    state: PluginState
    why: str | None = None
    error: BaseException | None = None
    import_ms: float | None = None
    provides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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

    def __str__(self) -> str:
        label = (
            self.name if self.name == self.distribution else f"{self.name} of {self.distribution}"
        )
        text = f"Plugin {label} {self.version} is {self.state}"
        return f"{text}: {self.why}" if self.why else text
