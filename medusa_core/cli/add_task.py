"""`medusa add-task`: train a head and add it, or add one from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import (
    HEAD_LR,
    HEAD_STEPS,
    auto_batch_option,
    data_option,
    examples,
    given_options,
    json_option,
    model_option,
    on_bad_sample_option,
    require_named,
    training_options,
)
from medusa_core.cli._output import count, emit, figure, next_line, skipped_line
from medusa_core.cli._progress import make_progress
from medusa_core.cli._table import table
from medusa_core.errors import CheckError, UsageError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "add-task",
    short_help="Train a head for a task, or take one from a file.",
    epilog=examples(
        "medusa add-task depth",
        "medusa add-task depth,normals,edges --data folder:photos",
        "medusa add-task semseg --name semseg_streets --data folder:streets",
        "medusa add-task edges --head linear --steps 200",
        "medusa add-task ./depth_indoor.medusa --dry-run",
    ),
)
@click.argument("tasks", metavar="TASK[,TASK…]|FILE")
@model_option
@data_option
@click.option("--name", metavar="NAME", help="Name of the head; default: that of the task.")
@click.option("--replace", is_flag=True, help="Replace a head of that name.")
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@training_options(HEAD_STEPS, HEAD_LR)
@auto_batch_option
@click.option("--views", type=click.IntRange(min=1, max=22), help="Cached views an image [4].")
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    help="Stop after so many evaluations (of 20) without a better one; default: never.",
)
@click.option("--limit", type=click.IntRange(min=2), help="Use at most so many images.")
@on_bad_sample_option
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
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
    aside to choose weights by. No other head changes. Several tasks share one pass over the images;
    one that fails in training is not in the way of the others. A head that is replaced is gone:
    medusa export-head keeps it.

    What contains / or ends in .medusa is a head file, written by `medusa export-head` from a model
    with the same backbone. What is in it is shown, then it is added; nothing is trained.
    """
    require_named(model)
    if "/" in tasks or tasks.endswith(".medusa"):
        _refuse_training_options()
        _add_file(tasks, model, name, replace, dry_run, as_json)
        return
    from medusa_core.engine.datasets import DataRef
    from medusa_core.workflows.add_task import add_task
    from medusa_core.workflows.training.head_plan import DEFAULT_BATCH

    given = {key: value for key, value in options.items() if value is not None}
    if given.get("batch") == "auto":
        given |= {"batch": DEFAULT_BATCH, "smaller_batches": True}
    result = add_task(
        [part.strip() for part in tasks.split(",") if part.strip()],
        model=model,
        data=data,
        name=name,
        replace=replace,
        split=split,
        settings=head_settings(settings),
        **given,
        dry_run=dry_run,
        progress=make_progress(),
    )

    def human(console: Console) -> None:
        if dry_run:
            for head, row in result["heads"].items():
                verb = "add" if row["before"] is None else "replace"
                console.print(
                    f"Would {verb} {head}: task {row['task']}, head {row['head']['name']}, "
                    f"up to {row['images']} images of {row['data']} at {row['size'][0]}×"
                    f"{row['size'][1]}, {row['steps']} steps."
                )
            cache = result["cache"]
            console.print(
                f"Features to be cached: {cache['bytes'] / 1e6:,.1f} MB in {cache['folder']}; "
                f"{cache['free'] / 1e9:,.1f} GB are free, the cache may hold "
                f"{cache['limit'] / 1e9:g} GB."
            )
            return
        if not result["heads"]:
            return
        columns = ("head", "task", "architecture", "score", "params", "of backbone", "CPU s")
        rows = [_row(head, row) for head, row in result["heads"].items()]
        console.print(table(columns, rows, numeric=columns[4:]))
        for row in result["heads"].values():
            if row["skipped"]["count"]:
                console.print(skipped_line(row["skipped"]))
            if row["report"] is not None:
                console.print(f"Report: {row['report']}")
        names = ",".join(result["heads"])
        spoken_of = {*result["heads"], *(row["task"] for row in result["heads"].values())}
        used = [text for text in data if DataRef.parse(text).task in (None, *spoken_of)]
        console.print(next_line("eval", "--tasks", names, "-m", result["model"], data=used))

    emit(result, as_json, human)
    failed = result.get("failed")
    if failed:
        told = "; ".join(f"{head}: {why['error']}" for head, why in failed.items())
        hint = next((why["hint"] for why in failed.values() if why["hint"]), None)
        raise CheckError(f"Not added: {told}", hint)


def _refuse_training_options() -> None:
    """An option that would do nothing is a mistake."""
    for option in given_options("tasks", "model", "name", "replace", "dry_run", "as_json"):
        raise UsageError(
            f"{option} is for training; a head file is added as it is.",
            hint="Options of files: --name, --replace, --dry-run.",
        )


def _add_file(
    file: str, model: Path, name: str | None, replace: bool, dry_run: bool, as_json: bool
) -> None:
    from medusa_core.workflows.head_files import add_head

    result = add_head(
        file,
        model=model,
        name=name,
        replace=replace,
        dry_run=dry_run,
        progress=make_progress(),
    )
    head, problems = result["head"], result["problems"]

    def human(console: Console) -> None:
        for problem in problems:
            console.print(problem)
        if not problems:
            verb = "Would add" if dry_run else "Added"
            console.print(f"{verb} {head['name']} to {model}; its probe is {head['probe']}.")

    emit(result, as_json, human)
    if problems:
        raise CheckError(f"{file} cannot be added to {model}.")


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
