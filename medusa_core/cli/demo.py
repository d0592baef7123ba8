"""`medusa demo`: see it work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import examples, json_option
from medusa_core.cli._output import emit, next_line
from medusa_core.cli._progress import make_progress
from medusa_core.cli._table import table
from medusa_core.errors import CheckError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "demo",
    short_help="See it work in a minute or two, without a download.",
    epilog=examples("medusa demo", "medusa demo -m /tmp/demo --json"),
)
@click.option(
    "-m",
    "--model",
    type=click.Path(path_type=Path),
    default=Path("medusa-demo"),
    show_default=True,
    help="Folder to make; it must not exist, or be empty.",
)
@json_option
def command(model: Path, as_json: bool) -> None:
    """Add two tasks the bundled backbone never saw, score them, remove one of them."""
    from medusa_core.workflows.demo import demo

    result = demo(model, progress=make_progress())

    def human(console: Console) -> None:
        backbone = result["backbone"]
        console.print(
            f"The bundled backbone was trained on {', '.join(backbone['trained_on'])}; "
            f"it never saw {', '.join(backbone['never_saw'])}."
        )
        rows = [
            (task, row["primary"], *(f"{row[kind][row['primary']]:.4g}" for kind in KINDS))
            for task, row in result["scores"].items()
        ]
        numeric = ("medusa head", "linear head", "constant")
        console.print(table(("added", "metric", *numeric), rows, numeric=numeric))
        console.print(f"Removed {result['removed']}. sha256 before and after:")
        after = result["digests_after"]
        for name, digest in result["digests_before"].items():
            verdict = "removed" if name not in after else "same" if after[name] == digest else "NOT"
            console.print(f"  {name:<12} {digest[:16]} {after.get(name, '–')[:16]:<16} {verdict}")
        for picture in result["pictures"]:
            console.print(f"Look at {picture}")
        console.print(f"{result['seconds']:.0f} s. {next_line('list', '-m', model)}")

    emit(result, as_json, human)
    if not result["ok"]:
        raise CheckError("Something changed that must not change.")


KINDS = ("medusa", "linear", "constant")
