"""`medusa train-backbone`: joint training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import (
    BALANCES,
    JOINT_BATCH,
    JOINT_LR,
    JOINT_STEPS,
    NAMES,
    batch_option,
    data_option,
    default_model,
    examples,
    folder_at_home,
    json_option,
    on_bad_sample_option,
    training_options,
)
from medusa_core.cli._output import count, emit, next_line, skipped_line
from medusa_core.cli._progress import make_progress
from medusa_core.cli._table import table
from medusa_core.cli.add_task import head_settings

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "train-backbone",
    short_help="Train a backbone with several heads jointly, then freeze it.",
    epilog=examples(
        "medusa init my-model --backbone hrnet_w18_small --from-scratch",
        "medusa train-backbone my-model --tasks semseg,depth --data rooms",
        "medusa train-backbone my-model --tasks semseg,depth --data semseg=folder:streets "
        "--data depth=folder:kitchens --balance uncertainty",
    ),
)
@click.argument(
    "model",
    type=click.Path(path_type=Path),
    envvar="MEDUSA_MODEL",
    default=default_model,
    callback=folder_at_home,
)
@click.option("--tasks", type=NAMES, required=True, metavar="TASKS", help="Tasks to train on.")
@data_option
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@training_options(JOINT_STEPS, JOINT_LR)
@batch_option(JOINT_BATCH)
@click.option(
    "--balance",
    type=click.Choice(BALANCES),
    default="fixed",
    show_default=True,
    help="How losses are weighted: as the tasks say, by learned uncertainty, or by DWA.",
)
@click.option("--limit", type=click.IntRange(min=2), help="Use at most so many images.")
@on_bad_sample_option
@click.option("--dry-run", is_flag=True, help="Check everything, report costs, train nothing.")
@json_option
def command(
    model: Path,
    tasks: tuple[str, ...],
    data: tuple[str, ...],
    split: str,
    balance: str,
    dry_run: bool,
    as_json: bool,
    settings: dict[str, dict[str, Any]],
    **options: Any,
) -> None:
    """Train the backbone of MODEL and a head for each task together, then freeze it for good.

    The folder must have no heads. The heads trained here are committed with the backbone. Images
    may lack targets, and data sets may be joined: a task reads those bound to it with TASK=, or
    else every unbound one with its target. A tenth of the images of each is kept aside to choose
    weights by.
    """
    from medusa_core.workflows.train_backbone import train_backbone

    given = {key: value for key, value in options.items() if value is not None}
    result = train_backbone(
        model,
        tasks=tasks,
        data=data,
        split=split,
        balance=balance,
        dry_run=dry_run,
        settings=head_settings(settings),
        progress=make_progress(),
        **given,
    )

    def human(console: Console) -> None:
        if dry_run:
            _show_plan(result, console)
            return
        rows = [
            (name, ", ".join(f"{k} {v:.4g}" for k, v in metrics.items() if v is not None))
            for name, metrics in result["heads"].items()
        ]
        console.print(table(("head", "on the selection split"), rows))
        console.print(
            f"Backbone {result['fingerprint'][:12]} is frozen; {result['cpu_seconds']:.0f} CPU s."
        )
        if result["skipped"]["count"]:
            console.print(skipped_line(result["skipped"]))
        if result["report"] is not None:
            console.print(f"Learning curves: {result['report']}")
        console.print(next_line("add-task", "TASK", "-m", result["model"]))

    emit(result, as_json, human)


def _show_plan(plan: dict[str, Any], console: Console) -> None:
    backbone, (height, width) = plan["backbone"], plan["size"]
    rows: list[tuple[object, ...]] = [
        (backbone["name"], count(backbone["params"]), f"{backbone['gmacs']:.3g}", None, None)
    ]
    rows += [
        (name, count(h["params"]), f"{h['gmacs']:.3g}", h["classes"], f"{h['loss_weight']:g}")
        for name, h in plan["heads"].items()
    ]
    columns = ("part", "params", "GMACs (480×640)", "classes", "loss weight")
    console.print(table(columns, rows, numeric=columns[1:]))
    console.print(
        f"Would train {backbone['name']} on {plan['images']} images at {height}×{width} for "
        f"{plan['steps']} steps of {plan['batch']}, and choose weights by "
        f"{plan['selection_images']} others: balance {plan['balance']}, {plan['precision']}, "
        f"on {plan['device']}."
    )
    if plan["skipped"]["count"]:
        console.print(skipped_line(plan["skipped"]))
