"""`medusa eval`: measure heads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import (
    data_option,
    device_option,
    examples,
    execution_options,
    json_option,
    long_side_option,
    model_option,
    on_bad_sample_option,
    settings_option,
    tasks_option,
)
from medusa_core.cli._output import emit, figure, skipped_line
from medusa_core.cli._progress import make_progress
from medusa_core.cli._table import table
from medusa_core.errors import CheckError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    "eval",
    short_help="Measure heads on a data set.",
    epilog=examples(
        "medusa eval --tasks depth",
        "medusa eval --data folder:photos --json",
        "medusa eval --tasks semseg --data folder:photos --min semseg.miou=0.4",
    ),
)
@tasks_option
@model_option
@data_option
@click.option("--split", default="val", show_default=True, help="Split to evaluate on.")
@click.option(
    "--min",
    "minimum",
    multiple=True,
    metavar="HEAD.METRIC=VALUE",
    help="Fail unless it is reached (a maximum where lower is better); may be repeated.",
)
@settings_option("HEAD.KEY=VALUE", "how a head is judged", "edges.max_distance=0.011")
@long_side_option
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images a data set.")
@on_bad_sample_option
@device_option
@execution_options
@json_option
def command(
    tasks: tuple[str, ...] | None,
    model: Path,
    data: tuple[str, ...],
    split: str,
    minimum: tuple[str, ...],
    settings: dict[str, dict[str, Any]],
    long_side: int | None,
    limit: int | None,
    on_bad_sample: str | None,
    device: str | None,
    engine: str,
    precision: str,
    compiled: bool,
    as_json: bool,
) -> None:
    """Score heads on every image of a data set (default: rooms), at the size of the images."""
    from medusa_core.model.execution import Execution
    from medusa_core.workflows.evaluate import evaluate

    result = evaluate(
        model,
        tasks=tasks,
        data=data,
        split=split,
        minimum=minimum,
        settings=settings,
        long_side=long_side,
        limit=limit,
        on_bad_sample=on_bad_sample or "fail",
        device=device,
        execution=Execution(engine, precision, compiled),
        progress=make_progress(),
    )

    def human(console: Console) -> None:
        rows = [_row(head, row) for head, row in result["heads"].items()]
        columns = ("head", "primary metric", "other metrics", "images", "data")
        console.print(table(columns, rows, numeric=("images",)))
        if result["comparisons"]:
            compared = [_compared(row, result["heads"]) for row in result["comparisons"]]
            titles = ("heads of one task", "difference", "95 % over resampled images", "")
            console.print(table(titles, compared))
        if result["skipped"]:
            console.print(f"No data here for: {', '.join(result['skipped'])}")
        if result["skipped_samples"]["count"]:
            console.print(skipped_line(result["skipped_samples"]))
        for check in result["checks"]:
            sign = "≥" if check["higher_is_better"] else "≤"
            verdict = "met" if check["ok"] else "NOT met"
            value, wanted = check["value"], check["wanted"]
            shown = "no target here" if value is None else _beside(value, wanted)
            console.print(
                f"{check['head']}.{check['metric']} {sign} {wanted:g}: {verdict} ({shown})"
            )

    emit(result, as_json, human)
    failed = [f"{c['head']}.{c['metric']}" for c in result["checks"] if not c["ok"]]
    if failed:
        raise CheckError(f"Not reached: {', '.join(failed)}.")


def _beside(value: float, wanted: float) -> str:
    """A figure, rounded unless that moves it to the other side of what is wanted, or onto it."""
    short = f"{value:.4g}"
    rounded = float(short)
    moved = (rounded < wanted, rounded > wanted) != (value < wanted, value > wanted)
    return f"{value:.12g}" if moved else short


def _row(head: str, row: dict[str, Any]) -> tuple[object, ...]:
    shown = {k: figure(k, v, row["units"].get(k)) for k, v in row["metrics"].items()}
    first = shown.pop(row["primary"])
    return head, first, ", ".join(shown.values()) or None, row["images"], ", ".join(row["data"])


def _compared(row: dict[str, Any], heads: dict[str, Any]) -> tuple[object, ...]:
    low, high = row["interval"]
    rises = row["higher_is_better"]
    verdict = "unclear"
    if low > 0 or high < 0:
        verdict = "better" if (low > 0) == rises else "worse"
    unit = heads[row["head"]]["units"].get(row["metric"], "")
    difference = f"{row['metric']} {row['difference']:+.4g} {unit}".rstrip()
    return f"{row['head']} − {row['to']}", difference, f"[{low:+.4g}, {high:+.4g}]", verdict
