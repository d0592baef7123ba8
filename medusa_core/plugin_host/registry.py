"""Names → specs and who provides them, with errors that say what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

from medusa_core.api import DatasetSpec, HeadSpec, TaskSpec
from medusa_core.errors import PluginError, UnknownNameError, UsageError
from medusa_core.plugin_host.report import PluginReport, PluginState, Provider
from medusa_core.plugin_host.settings import normalise

T = TypeVar("T", bound=TaskSpec | HeadSpec | DatasetSpec)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A spec and its provider."""

    spec: T
    provider: Provider


class Registry(Generic[T]):
    """Everything of one kind, immutable and ordered by name.

    A name that several plugins claim is an error when it is used, not before; `provider:name`
    (distribution or entry point) picks one of them.
    """

    def __init__(
        self, kind: str, entries: Iterable[Entry[T]], reports: Iterable[PluginReport] = ()
    ) -> None:
        self.kind = kind
        self._entries: tuple[Entry[T], ...] = tuple(
            sorted(entries, key=lambda e: (e.spec.name, e.provider.distribution, e.provider.plugin))
        )
        self._reports = tuple(reports)

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and len(self._claims(name)) == 1

    @property
    def names(self) -> tuple[str, ...]:
        """All names, each once, sorted."""
        return tuple(dict.fromkeys(entry.spec.name for entry in self._entries))

    def get(self, name: str, distribution: str | None = None) -> T:
        """The spec of that name.

        Args:
            name: `name` or `provider:name`.
            distribution: only what this distribution provides, as recorded with a trained head.

        Raises:
            UnknownNameError: nobody provides it.
            UsageError: several plugins provide it.
            PluginError: the plugin that provides it is broken, incompatible or disabled; where
                nobody can tell, a plugin that failed to load is presumed to.
        """
        return self.entry(name, distribution).spec

    def entry(self, name: str, distribution: str | None = None) -> Entry[T]:
        """The spec of that name and its provider; see `get`."""
        if distribution is not None:
            name = f"{distribution}:{name}"
        claims = self._claims(name)
        if len(claims) == 1:
            return claims[0]
        if claims:
            raise self._ambiguous(name, claims)
        self._unknown(name)

    @property
    def conflicts(self) -> tuple[UsageError, ...]:
        """What using each name says that several plugins claim."""
        claims = {name: self._claims(name) for name in self.names}
        return tuple(self._ambiguous(n, found) for n, found in claims.items() if len(found) > 1)

    def find(self, name: str, distribution: str) -> Entry[T] | None:
        """What one distribution provides under that name; None: nothing, or nothing single."""
        claims = self._claims(f"{distribution}:{name}")
        return claims[0] if len(claims) == 1 else None

    def _claims(self, name: str) -> list[Entry[T]]:
        provider, _, bare = name.rpartition(":")
        return [
            entry
            for entry in self._entries
            if entry.spec.name == bare and (not provider or _is(entry.provider, provider))
        ]

    def _ambiguous(self, name: str, claims: list[Entry[T]]) -> UsageError:
        distributions = {entry.provider.distribution for entry in claims}
        several = len(distributions) == len(claims)
        choices = [
            f"{e.provider.distribution if several else e.provider.plugin}:{e.spec.name}"
            for e in claims
        ]
        who = ", ".join(f"{entry.provider.plugin} ({entry.provider})" for entry in claims)
        return UsageError(
            f"The {self.kind} {name!r} is provided by {len(claims)} plugins: {who}.",
            hint=self._choose(choices, claims),
        )

    def _choose(self, choices: list[str], claims: list[Entry[T]]) -> str:
        if isinstance(claims[0].spec, DatasetSpec):  # there the colon stands before a path
            return f"Do without one of them: {' or '.join(e.provider.without for e in claims)}"
        return f"Name one of them: {' or '.join(choices)}"

    def _unknown(self, name: str) -> NoReturn:
        report = self._suspect(name)
        if report is not None:
            raise PluginError(
                f"The {self.kind} {name!r} is not available. {report}.", hint=report.remedy
            ) from report.error
        raise UnknownNameError(self.kind, name, self.names, hint=self._hint())

    def _suspect(self, name: str) -> PluginReport | None:
        """The plugin that would provide this name had it been loaded, as far as one can tell."""
        provider, _, bare = name.rpartition(":")
        failed = [report for report in self._reports if report.failed]
        if provider:
            unloaded = [r for r in self._reports if r.state is not PluginState.LOADED]
            return next((r for r in unloaded if _is(r.provider, provider)), None)
        for report in failed:
            if bare in report.provides.get(self.kind, ()):
                return report
        if difflib.get_close_matches(bare, self.names, n=1):
            return None
        silent = [report for report in failed if not report.provides]
        named = (r for r in silent if normalise(bare) in normalise(r.name).split("-"))
        return next(named, silent[0] if silent else None)

    def _hint(self) -> str:
        disabled = [r.name for r in self._reports if r.state is PluginState.DISABLED]
        if disabled:
            return f"Disabled plugins: {', '.join(disabled)}. See: medusa plugins list"
        if not self._entries:
            return f"No {self.kind} plugins found. Is medusa-heads installed? Run: pip install -e ."
        return "More come from plugins. See: medusa plugins list"


def _is(provider: Provider, name: str) -> bool:
    return normalise(name) in (normalise(provider.plugin), normalise(provider.distribution))
