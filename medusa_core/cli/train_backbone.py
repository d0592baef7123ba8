"""`medusa train-backbone`: joint training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import (
    NAMES,
    data_option,
    examples,
    json_option,
    training_options,
)
from medusa_core.cli._output import emit, table
from medusa_core.cli._progress import make_progress
from medusa_core.cli.add_task import head_settings

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "train-backbone",
    short_help="Train a backbone with several heads jointly, then freeze it.",
    epilog=examples(
        "medusa init my-model --backbone hrnet_w18_small --from-scratch",
        "medusa train-backbone my-model --tasks semseg,depth --data rooms",
    ),
)
@click.argument(
    "model", type=click.Path(path_type=Path), envvar="MEDUSA_MODEL", default=Path("medusa-model")
)
@click.option("--tasks", type=NAMES, required=True, metavar="TASKS", help="Tasks to train on.")
@data_option
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@training_options
@click.option("--limit", type=click.IntRange(min=2), help="Use at most so many images.")
@json_option
def command(
    model: Path,
    tasks: tuple[str, ...],
    data: tuple[str, ...],
    split: str,
    as_json: bool,
    settings: dict[str, dict[str, Any]],
    **options: Any,
) -> None:
    """Train the backbone of MODEL and a head for each task together, then freeze it for good.

    The folder must have no heads. The heads trained here are committed with the backbone.
    """
    from medusa_core.plugin_host.importing import stdout_to_stderr
    from medusa_core.workflows.train_backbone import train_backbone

    given = {key: value for key, value in options.items() if value is not None}
    with stdout_to_stderr():
        result = train_backbone(
            model,
            tasks=tasks,
            data=data,
            split=split,
            settings=head_settings(settings),
            progress=make_progress(),
            **given,
        )

    def human(console: Console) -> None:
        rows = [
            (name, ", ".join(f"{k} {v:.4g}" for k, v in metrics.items() if v is not None))
            for name, metrics in result["heads"].items()
        ]
        console.print(table(("head", "on the selection split"), rows))
        console.print(
            f"Backbone {result['fingerprint'][:12]} is frozen; {result['cpu_seconds']:.0f} CPU s."
        )
        console.print(f"Next: medusa add-task TASK -m {result['model']}")

    emit(result, as_json, human)
