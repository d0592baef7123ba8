"""The installed plugins and the peers, for the workflows' `host=`."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import medusa_core
from medusa_core.plugin_host.discovery import GROUP
from medusa_core.plugin_host.host import Host, load_host


@dataclass(frozen=True)
class _Peers:
    """The entry point that the peers would have were they installed."""

    name: str = "medusa-benchmarks"
    value: str = "benchmarks.peers.plugin"
    dist: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            name="medusa-benchmarks", version=medusa_core.__version__, requires=[]
        )
    )

    def load(self) -> ModuleType:
        """Import it."""
        return importlib.import_module(self.value)


def peers_host() -> Host:
    """A host that also knows the head architectures `plain` and `mtinet_task`."""
    return load_host([*importlib.metadata.entry_points(group=GROUP), _Peers()])
