"""`medusa rename-head`: give a head another name."""

from __future__ import annotations

from pathlib import Path

import click

from medusa_core.cli._options import examples, json_option, model_option
from medusa_core.cli._output import emit


@click.command(
    "rename-head",
    short_help="Give a head another name.",
    epilog=examples("medusa rename-head depth depth_indoor"),
)
@click.argument("old")
@click.argument("new")
@model_option
@json_option
def command(old: str, new: str, model: Path, as_json: bool) -> None:
    """Give the head OLD the name NEW. Its weights stay as they are."""
    from medusa_core.workflows.heads import rename_head

    result = rename_head(old, new, model=model)
    emit(result, as_json, lambda console: console.print(f"{old} is now called {new}."))
