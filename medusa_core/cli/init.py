"""`medusa init`: make a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import examples, json_option
from medusa_core.cli._output import count, emit, next_line
from medusa_core.cli._progress import make_progress

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "init",
    short_help="Make a model folder around a backbone.",
    epilog=examples(
        "medusa init my-model",
        "medusa init my-model --backbone resnet18 --pretrained",
        "medusa init my-model --backbone mobilenetv2_100 --weights FILE.safetensors",
        "medusa init my-model --backbone hrnet_w18_small_v2 --from-scratch",
    ),
)
@click.argument("model", type=click.Path(path_type=Path), default=Path("medusa-model"))
@click.option(
    "--backbone",
    metavar="NAME",
    help="A timm model for images of any size with features at strides 4 to 32, or a plain ViT; "
    "default: the bundled one.",
)
@click.option("--pretrained", is_flag=True, help="Fetch timm's own weights.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A safetensors file with the weights, under timm's names.",
)
@click.option("--from-scratch", is_flag=True, help="Random weights, for train-backbone.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of random weights."
)
@json_option
def command(
    model: Path,
    backbone: str | None,
    pretrained: bool,
    weights: Path | None,
    from_scratch: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Make the folder MODEL (default ./medusa-model) with a frozen backbone and no heads."""
    from medusa_core.workflows.init import init

    result = init(
        model,
        backbone=backbone,
        weights=weights,
        pretrained=pretrained,
        from_scratch=from_scratch,
        seed=seed,
        progress=make_progress(),
    )

    def human(console: Console) -> None:
        record = result["backbone"]
        console.print(
            f"Made {result['model']}: {record['name']}, {count(record['params'])} parameters, "
            f"{record['gmacs']:.2f} GMACs at 480×640, fingerprint {record['fingerprint'][:12]}."
        )
        levels = zip(record["channels"], record["strides"], strict=True)
        shown = ", ".join(f"{channels} at stride {stride}" for channels, stride in levels)
        console.print(f"Feature levels: {shown}.")
        if from_scratch:
            console.print(next_line("train-backbone", result["model"], "--tasks", "TASKS"))
        else:
            console.print(next_line("add-task", "TASK", "-m", result["model"]))

    emit(result, as_json, human)
