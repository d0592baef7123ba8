"""`medusa bench`: what a model costs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medusa_core.cli._options import (
    SIZE,
    device_option,
    examples,
    execution_options,
    json_option,
    model_option,
    tasks_option,
)
from medusa_core.cli._output import emit
from medusa_core.cli._progress import make_progress
from medusa_core.cli._table import table

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "bench",
    short_help="Time a model on this machine.",
    epilog=examples(
        "medusa bench",
        "medusa bench --size 480x640 --threads 1 --precision bf16",
        "medusa bench --batch 32 --device cuda --json",
    ),
)
@tasks_option
@model_option
@click.option(
    "--size",
    type=SIZE,
    metavar="HxW",
    help="Height and width of the images; default: those that the first head was trained at.",
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Timed runs."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the CPU.")
@device_option
@execution_options
@json_option
def command(
    tasks: tuple[str, ...] | None,
    model: Path,
    size: tuple[int, int] | None,
    batch: int,
    rounds: int,
    threads: int | None,
    device: str | None,
    engine: str,
    precision: str,
    compiled: bool,
    as_json: bool,
) -> None:
    """Time the backbone, each head and all together, in turns, on images of noise."""
    from medusa_core.model.execution import Execution
    from medusa_core.workflows.bench import bench

    result = bench(
        model,
        tasks=tasks,
        size=size,
        batch=batch,
        rounds=rounds,
        threads=threads,
        device=device,
        execution=Execution(engine, precision, compiled),
        progress=make_progress(),
    )

    def human(console: Console) -> None:
        columns = ("part", "ms", "lowest", "highest", "of backbone", "images/s")
        rows = [
            (
                row["part"],
                *(f"{row[key]:.2f}" for key in ("ms", "lowest_ms", "highest_ms")),
                f"{row['of_backbone']:.1%}",
                f"{row['images_per_second']:.1f}",
            )
            for row in result["rows"]
        ]
        console.print(table(columns, rows, numeric=columns[1:]))
        height, width = result["size"]
        peak = result["peak_memory_mb"]
        threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
        console.print(
            f"{result['backbone']}, {result['execution']}, {result['device']}, "
            f"{threads}, batch {batch}, {height}×{width}; peak memory "
            f"{'unknown' if peak is None else f'{peak:.0f} MB'}"
        )

    emit(result, as_json, human)
