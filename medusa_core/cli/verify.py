"""`medusa verify`: check a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import examples, json_option, model_option
from medusa_core.cli._output import emit
from medusa_core.errors import CheckError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "verify",
    short_help="Check that a model is what it was.",
    epilog=examples("medusa verify", "medusa verify -m my-model --json", "medusa verify --repair"),
)
@model_option
@click.option("--repair", is_flag=True, help="First delete what interrupted changes have left.")
@json_option
def command(model: Path, repair: bool, as_json: bool) -> None:
    """Re-hash every file of the model and replay every head on a fixed image.

    Files left over from an interrupted change and files of other origin do no harm. --repair
    deletes the former. It never touches what belongs to the model, be it damaged.
    """
    from medusa_core.model.verification import NOT_REPLAYED
    from medusa_core.workflows.verify import verify

    result = verify(model, repair=repair)

    def human(console: Console) -> None:
        for path in result["removed"]:
            console.print(f"deleted: {path}")
        for name, verdict in result["probes"].items():
            console.print(f"{name}: {verdict}")
        for note in result["notes"]:
            console.print(note)
        for problem in result["problems"]:
            path, message = problem["path"], problem["message"]
            where = "" if path in message else f"{path}: "
            console.print(f"{problem['kind']}: {where}{message}")
        if result["ok"]:
            unseen = sum(verdict == NOT_REPLAYED for verdict in result["probes"].values())
            but = f", as far as its files tell for {unseen} of its heads" if unseen else ""
            console.print(f"{result['model']} is what it was{but}.")

    emit(result, as_json, human)
    if not result["ok"]:
        count = sum(problem["kind"] != "stray" for problem in result["problems"])
        raise CheckError(f"{model} has {count} problem{'s' if count > 1 else ''}.")
