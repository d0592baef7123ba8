"""`medusa plugins`: who provides what, why something does not work, and doing without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import examples, json_option
from medusa_core.cli._output import emit, print_warning
from medusa_core.cli._table import table
from medusa_core.cli.plugins_new import command as new_command
from medusa_core.errors import PluginError

if TYPE_CHECKING:
    from rich.console import Console

    from medusa_core.plugin_host import PluginReport
    from medusa_core.plugin_host.examine import Examination

NONE_FOUND = "No plugins found. Is medusa-heads installed? Run: pip install -e ."

names_argument = click.argument("names", nargs=-1, required=True, metavar="PLUGIN…")


@click.group("plugins", short_help="Show who provides tasks, heads and data sets.")
def command() -> None:
    """Show who provides tasks, heads and data sets, and choose among them.

    A plugin is named by its entry point or by its distribution. MEDUSA_PLUGINS names the plugins to
    load (all, if it is unset; none, if it is empty), MEDUSA_DISABLE_PLUGINS those to leave out,
    comma-separated. With MEDUSA_STRICT_PLUGINS=1 a plugin that cannot be loaded is an error.
    """


@command.command(
    "list",
    short_help="Show all plugins, without importing any.",
    epilog=examples("medusa plugins list", "medusa plugins list --requirements"),
)
@click.option("--requirements", is_flag=True, help="Print lines for pip install -r instead.")
@json_option
def list_command(requirements: bool, as_json: bool) -> None:
    """Show all plugins that are installed, without importing any.

    What a plugin provides is shown by `medusa plugins show`, whether it works by `medusa plugins
    doctor`.
    """
    from medusa_core.plugin_host import survey
    from medusa_core.workflows import plugins

    found = survey()
    for note in found.notes:
        print_warning(note)
    lines = plugins.requirements(found)

    def human(console: Console) -> None:
        if requirements:
            for line in lines:
                console.print(line)
        elif not found.reports:
            console.print(NONE_FOUND)
        else:
            rows = [
                (r.name, r.provider, p.value, r.state, r.why or "")
                for p, r in zip(found.points, found.reports, strict=True)
            ]
            console.print(table(("plugin", "distribution", "module", "state", "why"), rows))

    rows = [
        {**_identity(report), "module": point.value}
        for point, report in zip(found.points, found.reports, strict=True)
    ]
    emit({"plugins": rows, "requirements": lines}, as_json, human)


command.add_command(new_command)


@command.command(
    "show",
    short_help="Show what a plugin provides.",
    epilog=examples("medusa plugins show medusa-tasks"),
)
@names_argument
@json_option
def show_command(names: tuple[str, ...], as_json: bool) -> None:
    """Show where plugins come from and what they provide. Disabled ones are not imported."""
    from medusa_core.plugin_host import PluginState, survey
    from medusa_core.plugin_host.loading import load_plugin
    from medusa_core.workflows.plugins import choose

    found, rows = survey(), []
    for index in choose(found, names):
        point, report = found.points[index], found.reports[index]
        specs: Mapping[str, list[Any]] = {}
        if report.state is PluginState.ENABLED:
            report, loaded = load_plugin(point, report.provider)
            specs = {} if report.failed else loaded.specs
        rows.append(
            {
                **_identity(report),
                "module": point.value,
                **_metadata(point.dist),
                "provides": {
                    kind: {spec.name: spec.title for spec in some} for kind, some in specs.items()
                },
            }
        )

    def human(console: Console) -> None:
        for row in rows:
            console.print(f"{row['name']} of {row['distribution']} {row['version']}")
            for key in ("summary", "home", "licence", "module", "state", "why"):
                if row[key]:
                    console.print(f"  {key}: {row[key]}")
            for kind, titles in row["provides"].items():
                for name, title in titles.items():
                    console.print(f"  {kind} {name}: {title}")

    emit({"plugins": rows}, as_json, human)


@command.command(
    "doctor",
    short_help="Find out what is wrong with plugins.",
    epilog=examples("medusa plugins doctor", "medusa plugins doctor medusa-sobel"),
)
@click.argument("names", nargs=-1, metavar="[PLUGIN…]")
@json_option
def doctor_command(names: tuple[str, ...], as_json: bool) -> None:
    """Import plugins, each in a process of its own: which fail and why, and what makes them slow.

    Plugins that are named are imported as a whole, with all that their tasks, heads and data sets
    need, even if they are disabled.
    """
    from medusa_core.plugin_host import PluginState, survey
    from medusa_core.plugin_host.examine import Examination, examine
    from medusa_core.workflows.plugins import choose

    found, results = survey(), []
    for index in choose(found, names) if names else range(len(found.reports)):
        report = found.reports[index]
        looked_into = report.state is PluginState.ENABLED or (
            names and report.state is PluginState.DISABLED
        )
        if looked_into and report.state is PluginState.DISABLED:
            print_warning(f"{report.name} is disabled, and loaded for this look only.")
        results.append(
            examine(found.points[index], implementations=bool(names))
            if looked_into
            else Examination(report)
        )

    def human(console: Console) -> None:
        for result in results:
            for part in _diagnosis(result):
                for line in part.split("\n"):
                    console.print(line)
        if not results:
            console.print(NONE_FOUND)

    emit({"plugins": [_finding(result) for result in results]}, as_json, human)
    failed = [result.report.name for result in results if result.report.failed]
    if failed:
        raise PluginError(f"{', '.join(failed)} cannot be loaded.")


@command.command(
    "disable",
    short_help="Do without plugins.",
    epilog=examples("medusa plugins disable medusa-sobel"),
)
@names_argument
@json_option
def disable_command(names: tuple[str, ...], as_json: bool) -> None:
    """Write into the settings file that plugins are not to be loaded. Imports none of them."""
    from medusa_core.workflows.plugins import disable

    _tell(disable(names), as_json)


@command.command(
    "enable",
    short_help="Have disabled plugins again.",
    epilog=examples("medusa plugins enable medusa-sobel"),
)
@names_argument
@json_option
def enable_command(names: tuple[str, ...], as_json: bool) -> None:
    """Take plugins off the list of those that are not to be loaded. Imports none of them."""
    from medusa_core.workflows.plugins import enable

    _tell(enable(names), as_json)


def _tell(result: dict[str, Any], as_json: bool) -> None:
    if result["overridden_by"]:
        print_warning(f"{result['overridden_by']} is set, and goes before {result['settings']}.")

    def human(console: Console) -> None:
        console.print(f"Disabled now: {', '.join(result['disabled']) or 'none'}")

    emit(result, as_json, human)


def _identity(report: PluginReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "state": report.state,
        "why": report.why,
    }


def _metadata(distribution: Any) -> dict[str, Any]:
    """What a distribution says about itself; None for what it does not say."""
    fields = {"summary": "Summary", "home": "Home-page", "licence": "License-Expression"}
    try:
        said = distribution.metadata
        return {key: said.get(name) for key, name in fields.items()}
    except Exception:  # noqa: BLE001 - damaged or absent
        return dict.fromkeys(fields)


def _finding(result: Examination) -> dict[str, Any]:
    report = result.report
    return {
        **_identity(report),
        "import_ms": None if report.import_ms is None else round(report.import_ms, 1),
        "heavy": result.heavy,
        "traceback": result.traceback,
        "remedy": report.remedy if report.failed else None,
        "tasks": report.provides.get("task", ()),
        "heads": report.provides.get("head architecture", ()),
        "datasets": report.provides.get("data set", ()),
    }


def _diagnosis(result: Examination) -> list[str]:
    report = result.report
    took = "" if report.import_ms is None else f" (imported in {report.import_ms:.0f} ms)"
    provides = [
        f"{len(names)} {kind}{'s' if len(names) > 1 else ''}"
        for kind, names in report.provides.items()
        if names
    ]
    lines = [f"{report}{took}" + (f", {', '.join(provides)}" if provides else "")]
    lines += [
        f"  imports {heavy.package} ({heavy.ms:.0f} ms) in {heavy.by}: import it where it is used"
        for heavy in result.heavy
    ]
    if result.traceback:
        lines += ["", result.traceback]
    if report.failed:
        lines.append(f"  {report.way_out if result.traceback else report.remedy}")
    return lines
