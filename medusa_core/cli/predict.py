"""`medusa predict`: run heads on images and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from medusa_core.cli._options import (
    NAMES,
    NumberOrAuto,
    device_option,
    examples,
    execution_options,
    json_option,
    long_side_option,
    model_option,
    tasks_option,
)
from medusa_core.cli._output import emit, print_error
from medusa_core.cli._progress import make_progress
from medusa_core.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "predict",
    short_help="Run heads on images and videos.",
    epilog=examples(
        "medusa predict street.jpg --tasks depth,semseg --out out/",
        "medusa predict photos/ --raw --json",
        "medusa predict 'photos/**/*.jpg' --format npy --resume",
        "medusa predict aerial.tif --size 4000 --tile 512",
        "medusa predict clip.mp4 --out frames/",
    ),
)
@click.argument("images", nargs=-1, required=True)
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
@click.option(
    "--format",
    "formats",
    type=NAMES,
    default=("png",),
    show_default="png",
    metavar="NAMES",
    help="What to write, comma-separated: png (renderings), npy (values), png16 (values as 16-bit "
    "integers), json (a summary).",
)
@long_side_option
@click.option(
    "--tile",
    type=NumberOrAuto(128, 8192),
    metavar="PIXELS|auto",
    help="Cut what is larger into overlapping tiles of this side, 128 to 8192, and blend their "
    "predictions. auto: where an image does not fit into memory.",
)
@click.option("--resume", is_flag=True, help="Leave out images whose results are there.")
@device_option
@execution_options
@json_option
def command(
    images: tuple[str, ...],
    tasks: tuple[str, ...] | None,
    model: Path,
    out: Path,
    raw: bool,
    formats: tuple[str, ...],
    long_side: int | None,
    tile: int | Literal["auto"] | None,
    resume: bool,
    device: str | None,
    engine: str,
    precision: str,
    compiled: bool,
    as_json: bool,
) -> None:
    """Write <stem>.<head>.png for each image (files, folders or patterns) and head.

    Of video files each frame, as <stem>.frames/<number>.<head>.png.
    """
    from medusa_core.model.execution import Execution
    from medusa_core.workflows.predict import predict

    result = predict(
        images,
        model=model,
        tasks=tasks,
        out=out,
        raw=raw,
        formats=formats,
        long_side=long_side,
        tile=tile,
        resume=resume,
        device=device,
        execution=Execution(engine, precision, compiled),
        progress=make_progress(),
    )

    def human(console: Console) -> None:
        for image in result["images"]:
            for entry in image["results"]:
                for kind in ("rendering", "values", "values16", "summary"):
                    if kind in entry:
                        console.print(f"{entry[kind]}{_value(entry)}")

    emit(result, as_json, human)
    for entry in result["failed"]:
        print_error(entry["error"], prefix="Failed: ")
    if result["failed"]:
        total = len(result["failed"]) + len(result["images"]) + len(result["skipped"])
        raise DataError(f"{len(result['failed'])} of {total} images could not be predicted.")


def _value(entry: dict[str, Any]) -> str:
    """What was found, where it is one value or a few for the whole image."""
    if "value" not in entry:
        return ""
    value = entry.get("label", entry["value"])
    shown = value if isinstance(value, list) else [value]
    texts = [f"{number:.4g}" if isinstance(number, float) else str(number) for number in shown]
    return f": {' '.join(filter(None, [*texts, entry['unit']]))}"
