"""`medusa list`: the heads of a model, what they cost, and whether they can run here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import examples, json_option, model_option
from medusa_core.cli._output import clean, count, emit, figure
from medusa_core.cli._table import table
from medusa_core.names import shortened

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("head", "task", "architecture", "params", "GMACs", "of backbone", "metric", "data")


@click.command(
    "list",
    short_help="Show the heads of a model.",
    epilog=examples("medusa list", "medusa list -m my-model --json"),
)
@model_option
@json_option
def command(model: Path, as_json: bool) -> None:
    """Show the heads of a model: size, cost beside the backbone, quality, training data.

    A head whose plugin is missing is an orphan: it is kept, and runs again once the plugin is
    back. One whose record is damaged is shown as such, and is in no other head's way; weights are
    looked at by `verify`.
    """
    from medusa_core.plugin_host import default_host
    from medusa_core.store.folder import ModelFolder
    from medusa_core.workflows.listing import describe

    with ModelFolder.open(model) as folder:
        result = describe(folder, default_host())
    emit(result, as_json, lambda console: _print(console, result))


def _print(console: Console, result: dict[str, Any]) -> None:
    backbone, heads = result["backbone"], result["heads"]
    name = clean(backbone["name"])
    console.print(f"{name}: {count(backbone['params'])} params, {backbone['gmacs']:.2f} GMACs")
    if not heads:
        add = shlex.join(["medusa", "add-task", "TASK", "-m", str(result["model"])])
        console.print(f"No heads yet. Add one: {add} (see: medusa tasks)")
        return
    console.print(table(COLUMNS, map(_cells, heads), numeric=COLUMNS[3:6]))
    for head in heads:
        for note in head["notes"]:
            console.print(f"{head['name']} ({head['state']}): {note}")


def _cells(head: dict[str, Any]) -> tuple[object, ...]:
    metric = head["metric"]
    if metric is not None:
        metric = figure(metric["name"], metric["value"], metric["unit"])
    mark = "" if head["state"] == "ready" else f" ({head['state']})"
    return (
        head["name"] + mark,
        head["task"],
        head["head"],
        None if head["params"] is None else count(head["params"]),
        None if head["gmacs"] is None else f"{head['gmacs']:.3f}",
        None if head["share"] is None else f"{head['share']:.1%}",
        metric,
        shortened(", ".join(head["data"])) or None,
    )
