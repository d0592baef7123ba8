"""`medusa plugins new`: start a package of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import examples, json_option
from medusa_core.cli._output import emit

if TYPE_CHECKING:
    from rich.console import Console

LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause")
"""As in the workflow, which is imported when the command runs."""


@click.command(
    "new",
    short_help="Write a package for a task or head of your own.",
    epilog=examples(
        "medusa plugins new sharpness",
        "medusa plugins new wall-paint --dataset --licence MIT --author 'A. Name'",
        "medusa plugins new pyramid --head",
        "medusa plugins new sharpness --into plugins --dry-run",
    ),
)
@click.argument("name")
@click.option("--dataset", is_flag=True, help="With a data set that the task learns from.")
@click.option("--head", is_flag=True, help="A head architecture in place of a task.")
@click.option(
    "--licence", type=click.Choice(LICENCES), default=LICENCES[0], show_default=True, help="Of it."
)
@click.option("--author", metavar="NAME", help="Whom the licence names.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder to make it in; default: this one.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, write nothing.")
@json_option
def command(
    name: str,
    dataset: bool,
    head: bool,
    licence: str,
    author: str | None,
    into: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the package medusa-NAME: a task that works, its tests, and how to publish it.

    NAME is that of the task: words of lower-case letters, separated by '-'. The task computes its
    target from the image, with --dataset it reads it from a data set in the package; change it from
    there. With --head the package brings a head architecture, for any task. Nothing that exists is
    written over.
    """
    from medusa_core.workflows.new_plugin import new_plugin

    result = new_plugin(
        name,
        into=into,
        dataset=dataset,
        head=head,
        licence=licence,
        author=author,
        dry_run=dry_run,
    )

    def human(console: Console) -> None:
        folder, verb = result["folder"], "Would write" if dry_run else "Wrote"
        console.print(f"{verb} {folder}:")
        for file in result["files"]:
            console.print(f"  {file}")
        if not dry_run:
            place = shlex.quote(folder if Path(folder).is_absolute() else f"./{folder}")
            data = f" --data {result['task']}_data" if dataset else ""
            use = f"depth --head {result['head']}" if head else f"{result['task']}{data}"
            console.print(f"Next: pip install -e {place} && pytest {place}")
            console.print(f"Then: medusa add-task {use}")

    emit(result, as_json, human)
