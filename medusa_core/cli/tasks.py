"""`medusa tasks`: what can be added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import examples, json_option
from medusa_core.cli._output import emit
from medusa_core.cli._table import table

if TYPE_CHECKING:
    from rich.console import Console

    from medusa_core.api import TaskSpec
    from medusa_core.plugin_host import Provider


@click.command(
    "tasks",
    short_help="Show the tasks that can be added.",
    epilog=examples("medusa tasks", "medusa tasks --json", "medusa add-task depth"),
)
@json_option
def command(as_json: bool) -> None:
    """Show the tasks that can be added, what they predict, and who provides them."""
    from medusa_core.plugin_host import default_host

    host = default_host()
    rows = [_row(entry.spec, entry.provider) for entry in host.tasks]

    def human(console: Console) -> None:
        if not rows:
            console.print("No task plugins found. See: medusa plugins list")
            return
        columns = ("task", "title", "target", "primary metric", "provided by")
        console.print(table(columns, ([row["name"], row["title"], *_cells(row)] for row in rows)))

    emit({"tasks": rows}, as_json, human)


def _row(spec: TaskSpec, provider: Provider) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": spec.title,
        "description": spec.description,
        "target": {
            "name": spec.target_name,
            "source": spec.target.source,
            "unit": spec.target.unit,
        },
        "output": spec.output,
        "metrics": spec.metrics,
        "primary_metric": spec.primary_metric.name,
        "default_head": spec.default_head,
        "api_version": spec.api_version,
        "provider": provider,
    }


def _cells(row: dict[str, Any]) -> tuple[str, str, str]:
    target, metric = row["target"], next(m for m in row["metrics"] if m.primary)
    if target["source"] == "image":
        source = "computed from the image"
    else:
        source = _with_unit(target["name"], target["unit"])
    arrow = "↑" if metric.higher_is_better else "↓"
    return source, f"{_with_unit(metric.name, metric.unit)} {arrow}", str(row["provider"])


def _with_unit(name: str, unit: str | None) -> str:
    return f"{name} ({unit})" if unit else name
