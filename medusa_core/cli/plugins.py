"""`medusa plugins`: who provides what, and why something does not work."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import examples, json_option
from medusa_core.cli._output import clean, emit, print_warning, table
from medusa_core.cli.plugins_new import command as new_command

if TYPE_CHECKING:
    from rich.console import Console

    from medusa_core.plugin_host import PluginReport


@click.group("plugins", short_help="Show who provides tasks, heads and data sets.")
def command() -> None:
    """Show who provides tasks, heads and data sets.

    MEDUSA_PLUGINS names the plugins to load (all, if it is unset; none, if it is empty),
    MEDUSA_DISABLE_PLUGINS those to leave out, comma-separated. With MEDUSA_STRICT_PLUGINS=1 a
    plugin that cannot be loaded is an error.
    """


@command.command(
    "list",
    short_help="Show all plugins.",
    epilog=examples(
        "medusa plugins list",
        "medusa --debug plugins list        # with tracebacks",
        "MEDUSA_DISABLE_PLUGINS=medusa-sobel medusa plugins list",
    ),
)
@json_option
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """Show all plugins, those included that are broken, or disabled and hence not imported."""
    from medusa_core.plugin_host import PluginSettings, load_host

    # The way to find out about a broken plugin must not itself fail on it.
    settings = dataclasses.replace(PluginSettings.from_environment(), strict=False)
    host = load_host(settings=settings)
    for note in host.notes:
        print_warning(note)

    def human(console: Console) -> None:
        if not host.reports:
            console.print("No plugins found. Is medusa-heads installed? Run: pip install -e .")
            return
        columns = ("plugin", "distribution", "state", "provides", "ms", "why")
        console.print(table(columns, map(_cells, host.reports), numeric=("ms",)))
        if ctx.find_root().params.get("debug"):
            for report in host.reports:
                if report.traceback:
                    console.print(clean(f"\n{report.name}:\n{report.traceback}", keep="\n"))

    emit({"plugins": [_row(report) for report in host.reports]}, as_json, human)


command.add_command(new_command)


def _row(report: PluginReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "state": report.state,
        "why": report.why,
        "traceback": report.traceback,
        "import_ms": None if report.import_ms is None else round(report.import_ms, 1),
        "tasks": report.provides.get("task", ()),
        "heads": report.provides.get("head architecture", ()),
        "datasets": report.provides.get("data set", ()),
    }


def _cells(report: PluginReport) -> tuple[object, ...]:
    provides = [
        f"{len(names)} {kind}{'s' if len(names) > 1 else ''}"
        for kind, names in report.provides.items()
        if names
    ]
    return (
        report.name,
        f"{report.distribution} {report.version}",
        report.state,
        ", ".join(provides) or None,
        None if report.import_ms is None else f"{report.import_ms:.0f}",
        report.why or "",
    )
