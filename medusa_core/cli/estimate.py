"""`medusa estimate`: a quick look before a head is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._lazy import TYPED
from medusa_core.cli._options import (
    HEAD_BATCH,
    HEAD_LR,
    HEAD_STEPS,
    batch_option,
    data_option,
    examples,
    json_option,
    learning_options,
    model_option,
    on_bad_sample_option,
    require_named,
)
from medusa_core.cli._output import emit, figure, next_line
from medusa_core.cli._progress import make_progress
from medusa_core.cli.add_task import head_settings

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "estimate",
    short_help="Predict in seconds what a head would reach.",
    epilog=examples(
        "medusa estimate depth",
        "medusa estimate semseg --data folder:streets --head hypercolumn",
        "medusa estimate normals --steps 3000 --json",
    ),
)
@click.argument("task", metavar="TASK")
@model_option
@data_option
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@learning_options(HEAD_STEPS, HEAD_LR)
@batch_option(HEAD_BATCH)
@click.option("--limit", type=click.IntRange(min=2), help="Use at most so many images.")
@on_bad_sample_option
@json_option
def command(
    task: str,
    model: Path,
    data: tuple[str, ...],
    split: str,
    as_json: bool,
    settings: dict[str, dict[str, Any]],
    **options: Any,
) -> None:
    """Predict the score that `medusa add-task TASK` would report, with an error bar.

    The head is trained for a short while on a few images, and again on four times as many; what
    that gains is extrapolated. Nothing is added to the model.
    """
    from medusa_core.workflows.estimate import estimate

    require_named(model)
    given = {key: value for key, value in options.items() if value is not None}
    result = estimate(
        task,
        model=model,
        data=data,
        split=split,
        settings=head_settings(settings),
        **given,
        progress=make_progress(),
    )

    def human(console: Console) -> None:
        metric, unit, basis = result["metric"], result["unit"], result["based_on"]
        console.print(
            f"{task}: {figure(metric, result['estimate'], unit)}, between "
            f"{result['low']:.4g} and {result['high']:.4g} in {result['level']:.0%} of cases."
        )
        runs = "; ".join(
            f"{run['images']} images, {run['steps']} steps: {run['score']:.4g}"
            for run in basis["trainings"]
        )
        console.print(
            f"Extrapolated to {result['images']} images of {result['data']} and {result['steps']} "
            f"steps from two short trainings, measured on {basis['selection_images']} images: "
            f"{runs}."
        )
        console.print(next_line("add-task", *click.get_current_context().meta[TYPED]))

    emit(result, as_json, human)
