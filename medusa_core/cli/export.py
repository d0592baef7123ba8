"""`medusa export`: write a backbone and heads to a file that runs without Medusa."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import (
    SIZE,
    examples,
    json_option,
    model_option,
    output_option,
    tasks_option,
)
from medusa_core.cli._output import count, emit
from medusa_core.cli._progress import make_progress

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "export",
    short_help="Write heads to a file that runs without Medusa.",
    epilog=examples(
        "medusa export -o heads.pt2",
        "medusa export -o heads.onnx --tasks depth,semseg",
        "medusa export -o camera.onnx --size 480x640",
    ),
)
@tasks_option
@model_option
@output_option("The file, .pt2 or .onnx; default: MODEL.pt2 here.")
@click.option(
    "--size",
    type=SIZE,
    metavar="HxW",
    help="Height and width of all images; default: any multiples of 32, in batches of any number.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images, with --size."
)
@click.option("--replace", is_flag=True, help="Replace a file that is there.")
@json_option
def command(as_json: bool, **options: Any) -> None:
    """Write the backbone and heads to one file for PyTorch (.pt2) or ONNX Runtime (.onnx).

    It holds what turns raw predictions into values, too, and says what is in it; scaling images is
    left to you. It is compared with the model before it is written. The model is not changed.
    """
    from medusa_core.workflows.export import export

    result = export(**options, progress=make_progress())

    def human(console: Console) -> None:
        images = result["images"]
        if images["batch"] is None:
            shape = (
                f"(B, 3, H, W), H and W multiples of {images['multiple_of']} up to "
                f"{images['largest']}"
            )
        else:
            shape = f"({images['batch']}, 3, {images['height']}, {images['width']})"
        console.print(
            f"{result['file']}: {', '.join(result['heads'])}, {count(result['bytes'])}B; images "
            f"{shape}, RGB from 0 to 1."
        )
        console.print(
            f"Compared with the model on images of noise: values differ by {result['moved']:.1g} "
            "of their size at most."
        )

    emit(result, as_json, human)
