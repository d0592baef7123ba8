"""`medusa remove-task`: remove heads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import NAMES, examples, json_option, model_option, yes_option
from medusa_core.cli._output import confirm, count, emit

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "remove-task",
    short_help="Remove a head.",
    epilog=examples("medusa remove-task depth --yes", "medusa remove-task depth --dry-run"),
)
@click.argument("heads", type=NAMES, metavar="HEAD[,HEAD…]")
@model_option
@yes_option
@click.option("--dry-run", is_flag=True, help="Show what would be removed.")
@json_option
def command(heads: tuple[str, ...], model: Path, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove heads from the model. The backbone and the other heads are not touched."""
    from medusa_core.workflows.heads import remove_task

    if not dry_run:
        plan = remove_task(heads, model=model, dry_run=True)
        confirm(f"Remove {', '.join(heads)} ({count(plan['bytes'])}B) from {model}?", yes)
    result = remove_task(heads, model=model, dry_run=dry_run)

    def human(console: Console) -> None:
        verb = "Would remove" if dry_run else "Removed"
        left = ", ".join(result["remaining"]) or "none"
        size = f"{count(result['bytes'])}B"
        console.print(f"{verb} {', '.join(result['removed'])} ({size}). Heads left: {left}.")

    emit(result, as_json, human)
