"""Finds plugins and holds what they provide. For `medusa_core` only."""

from medusa_core.plugin_host.discovery import Survey, survey
from medusa_core.plugin_host.host import Host, default_host, load_host
from medusa_core.plugin_host.registry import Entry, Registry
from medusa_core.plugin_host.report import PluginReport, PluginState, Provider
from medusa_core.plugin_host.settings import PluginSettings

__all__ = [
    "Entry",
    "Host",
    "PluginReport",
    "PluginSettings",
    "PluginState",
    "Provider",
    "Registry",
    "Survey",
    "default_host",
    "load_host",
    "survey",
]
