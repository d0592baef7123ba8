"""`medusa datasets`: what `--data` can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import examples, json_option
from medusa_core.cli._output import emit
from medusa_core.cli._table import table

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "datasets",
    short_help="Show the data sets that can be used.",
    epilog=examples("medusa datasets", "medusa add-task depth --data folder:/data/flat"),
)
@json_option
def command(as_json: bool) -> None:
    """Show the data sets `--data` can name, the targets they have, and who provides them."""
    from medusa_core.plugin_host import default_host

    entries = list(default_host().datasets)
    rows = [
        {
            **entry.spec.model_dump(exclude={"implementation"}),
            "provider": entry.provider,
        }
        for entry in entries
    ]

    def human(console: Console) -> None:
        if not entries:
            console.print("No data set plugins found. See: medusa plugins list")
            return
        usage = {"required": ":PATH", "optional": "[:LOCATION]", "none": ""}
        cells = (
            (
                f"{e.spec.name}{usage[e.spec.location]}",
                e.spec.title,
                ", ".join(e.spec.targets) or "any",
                e.spec.licence or None,
                e.provider,
            )
            for e in entries
        )
        console.print(table(("--data", "title", "targets", "licence", "provided by"), cells))

    emit({"datasets": rows}, as_json, human)
