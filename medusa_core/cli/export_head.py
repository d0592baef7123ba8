"""`medusa export-head`: write a head to a file."""

from __future__ import annotations

from pathlib import Path

import click

from medusa_core.cli._options import examples, json_option, model_option, output_option
from medusa_core.cli._output import count, emit


@click.command(
    "export-head",
    short_help="Write a head to a file, for another model.",
    epilog=examples("medusa export-head depth", "medusa export-head depth -o depth_indoor.medusa"),
)
@click.argument("head")
@model_option
@output_option("The file; default: HEAD.medusa here.")
@click.option("--replace", is_flag=True, help="Replace a head file that is there.")
@json_option
def command(head: str, model: Path, output: Path | None, replace: bool, as_json: bool) -> None:
    """Write HEAD to one file, which `medusa add-task FILE` adds to a model of the same backbone.

    The file holds the weights and all that is recorded about the head: task, classes, unit, data
    it was trained on, scores. The model is not changed.
    """
    from medusa_core.workflows.head_files import export_head

    result = export_head(head, output, model=model, replace=replace)
    size = f"{count(result['bytes'])}B"
    emit(result, as_json, lambda console: console.print(f"{result['file']}: {head}, {size}"))
