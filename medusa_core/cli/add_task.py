"""`medusa add-task`: train a head and add it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import (
    data_option,
    examples,
    json_option,
    model_option,
    training_options,
)
from medusa_core.cli._output import count, emit, figure, table
from medusa_core.cli._progress import make_progress
from medusa_core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "add-task",
    short_help="Train a head for a task and add it.",
    epilog=examples(
        "medusa add-task depth",
        "medusa add-task depth,normals --data folder:photos",
        "medusa add-task semseg --name semseg_streets --data folder:streets",
        "medusa add-task edges --head linear --steps 200",
    ),
)
@click.argument("tasks", metavar="TASK[,TASK…]")
@model_option
@data_option
@click.option("--name", metavar="NAME", help="Name of the head; default: that of the task.")
@click.option("--replace", is_flag=True, help="Replace a head of that name.")
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@training_options
@click.option("--views", type=click.IntRange(min=1, max=64), help="Cached views an image [4].")
@click.option("--limit", type=click.IntRange(min=2), help="Use at most so many images.")
@click.option("--dry-run", is_flag=True, help="Check everything, train nothing.")
@json_option
def command(
    tasks: str,
    model: Path,
    data: tuple[str, ...],
    name: str | None,
    replace: bool,
    split: str,
    dry_run: bool,
    as_json: bool,
    settings: dict[str, dict[str, Any]],
    **options: Any,
) -> None:
    """Train a head for each TASK on the frozen backbone, and add it to the model.

    The backbone's features are computed once and cached; a tenth of the training images is kept
    aside to choose weights by. No other head changes.
    """
    if "/" in tasks or tasks.endswith(".medusa"):
        raise UsageError(
            f"{tasks}: head files cannot be added yet.", hint="Name a task: medusa tasks"
        )
    from medusa_core.workflows.add_task import TrainOptions, add_task

    given = {key: value for key, value in options.items() if value is not None}
    result = add_task(
        [part.strip() for part in tasks.split(",") if part.strip()],
        model=model,
        data=data,
        name=name,
        replace=replace,
        split=split,
        options=TrainOptions(settings=head_settings(settings), **given),
        dry_run=dry_run,
        progress=make_progress(),
    )

    def human(console: Console) -> None:
        if dry_run:
            for head, row in result["heads"].items():
                console.print(
                    f"Would add {head}: task {row['task']}, head {row['head']['name']}, "
                    f"{row['images']} images of {row['data']} at {row['size'][0]}×"
                    f"{row['size'][1]}, {row['steps']} steps."
                )
            return
        columns = ("head", "task", "architecture", "score", "params", "of backbone", "CPU s")
        rows = [_row(head, row) for head, row in result["heads"].items()]
        console.print(table(columns, rows, numeric=columns[4:]))
        for row in result["heads"].values():
            if row["report"] is not None:
                console.print(f"Report: {row['report']}")
        names = ",".join(result["heads"])
        console.print(f"Next: medusa eval --tasks {names} -m {result['model']}")

    emit(result, as_json, human)


def head_settings(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The `head.…` part of `--set`; no other part exists."""
    other = sorted(set(settings) - {"head"})
    if other:
        raise UsageError(
            f"--set {other[0]}.…: only settings of the head can be set.",
            hint="For example: --set head.width=64",
        )
    return settings.get("head", {})


def _row(head: str, row: dict[str, Any]) -> tuple[object, ...]:
    primary = row["primary"]
    return (
        head,
        row["task"],
        row["head"]["name"],
        figure(primary, row["metrics"].get(primary), row["unit"]),
        count(row["params"]),
        f"{row['share_of_backbone']:.1%}",
        f"{row['cpu_seconds']:.0f}",
    )
