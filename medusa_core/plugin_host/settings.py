"""Which plugins the user wants, read from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

ALLOW = "MEDUSA_PLUGINS"
DISABLE = "MEDUSA_DISABLE_PLUGINS"
STRICT = "MEDUSA_STRICT_PLUGINS"


def normalise(name: str) -> str:
    """Name as package indexes compare it: case, `-`, `_` and `.` make no difference."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@dataclass(frozen=True)
class PluginSettings:
    """Which plugins to load. Names are normalised.

    A name means the entry point of that name; where there is none, every entry point of the
    distribution of that name. allowed=None allows all.
    """

    allowed: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()
    strict: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Settings of the user. An allow-list that is set but empty allows nothing."""
        environ = os.environ if environ is None else environ
        allowed = environ.get(ALLOW)
        return cls(
            allowed=None if allowed is None else _names(allowed),
            disabled=_names(environ.get(DISABLE, "")),
            strict=environ.get(STRICT, "").strip().lower() not in ("", "0", "false", "no"),
        )

    def why_disabled(self, plugin: str, distribution: str, plugins: Collection[str]) -> str | None:
        """The reason not to load a plugin; None: load it.

        Args:
            plugin: name of its entry point.
            distribution: name of its distribution.
            plugins: names of all entry points, which go before distributions of the same name.
        """
        points = {normalise(name) for name in plugins}
        names = {normalise(plugin)} | ({normalise(distribution)} - points)
        if names & self.disabled:
            return f"named in {DISABLE}"
        if self.allowed is not None and not names & self.allowed:
            return f"not named in {ALLOW}"
        return None


def _names(text: str) -> frozenset[str]:
    return frozenset(normalise(part) for part in text.split(",") if part.strip())
