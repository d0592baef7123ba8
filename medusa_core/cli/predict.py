"""`medusa predict`: run heads on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import (
    device_option,
    examples,
    json_option,
    long_side_option,
    model_option,
    tasks_option,
)
from medusa_core.cli._output import clean, emit, print_error
from medusa_core.cli._progress import make_progress
from medusa_core.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "predict",
    short_help="Run heads on images.",
    epilog=examples(
        "medusa predict street.jpg --tasks depth,semseg --out out/",
        "medusa predict photos/ --raw --json",
    ),
)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@tasks_option
@model_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--raw", is_flag=True, help="Also write decoded values as .npy files.")
@long_side_option
@device_option
@json_option
def command(
    images: tuple[Path, ...],
    tasks: tuple[str, ...] | None,
    model: Path,
    out: Path,
    raw: bool,
    long_side: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Write <stem>.<head>.png for each image (files or folders) and head."""
    from medusa_core.workflows.predict import predict

    result = predict(
        images,
        model=model,
        tasks=tasks,
        out=out,
        raw=raw,
        long_side=long_side,
        device=device,
        progress=make_progress(),
    )

    def human(console: Console) -> None:
        for image in result["images"]:
            for entry in image["results"]:
                console.print(clean(entry["rendering"]))
                if "values" in entry:
                    console.print(clean(entry["values"]))

    emit(result, as_json, human)
    for entry in result["failed"]:
        print_error(entry["error"], prefix="Failed: ")
    if result["failed"]:
        total = len(result["failed"]) + len(result["images"])
        raise DataError(f"{len(result['failed'])} of {total} images could not be predicted.")
