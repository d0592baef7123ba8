"""Which plugins the user wants: the environment, and behind it the settings file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from medusa_core.settings import read_settings, settings_file

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
    distribution of that name. allowed=None allows all. allowed_by and disabled_by say where the
    lists come from.
    """

    allowed: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()
    strict: bool = False
    allowed_by: str = ALLOW
    disabled_by: str = DISABLE

    @classmethod
    def of_user(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Settings of the user: each is that of the environment, or else that of the file.

        An allow-list that is set but empty allows nothing.

        Raises:
            UsageError: the settings file cannot be used.
        """
        environ = os.environ if environ is None else environ
        stored, file = read_settings(environ).plugins, str(settings_file(environ))
        allowed, disabled, strict = (environ.get(name) for name in (ALLOW, DISABLE, STRICT))
        names = stored.allowed if allowed is None else allowed.split(",")
        return cls(
            allowed=None if names is None else _names(names),
            disabled=_names(stored.disabled if disabled is None else disabled.split(",")),
            strict=stored.strict if strict is None else _switch(strict),
            allowed_by=file if allowed is None else ALLOW,
            disabled_by=file if disabled is None else DISABLE,
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
            return f"named in {self.disabled_by}"
        if self.allowed is not None and not names & self.allowed:
            return f"not named in {self.allowed_by}"
        return None


def _switch(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "false", "no")


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(normalise(name) for name in names if name.strip())
