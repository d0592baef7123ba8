"""`medusa doctor`: check what Medusa needs of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import examples, json_option, model_option
from medusa_core.cli._output import emit
from medusa_core.cli._table import table
from medusa_core.errors import CheckError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "doctor",
    short_help="Check what medusa needs of this machine.",
    epilog=examples("medusa doctor", "medusa doctor -m my-model --json"),
)
@model_option
@json_option
def command(model: Path, as_json: bool) -> None:
    """Check packages, devices, plugins, the cache, and the model where there is one.

    Nothing is changed. `medusa verify` goes deeper into the model.
    """
    from medusa_core.workflows.doctor import doctor

    result = doctor(model)

    def human(console: Console) -> None:
        rows = [(c["name"], c["state"], c["message"]) for c in result["checks"]]
        console.print(table(("check", "state", "found"), rows))
        for check in result["checks"]:
            if check["hint"] is not None:
                console.print(f"{check['name']}: {check['hint']}")

    emit(result, as_json, human)
    if not result["ok"]:
        bad = [check["name"] for check in result["checks"] if check["state"] == "problem"]
        raise CheckError(f"Something is wrong with: {', '.join(bad)}.")
