"""The command `medusa`. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from medusa_core import __version__
from medusa_core.cli._exit import run
from medusa_core.cli._lazy import LazyGroup
from medusa_core.cli._options import examples

COMMANDS = {
    "demo": ("medusa_core.cli.demo:command", "See it work in a minute or two, without a download."),
    "init": ("medusa_core.cli.init:command", "Make a model folder around a backbone."),
    "train-backbone": (
        "medusa_core.cli.train_backbone:command",
        "Train a backbone with several heads jointly, then freeze it.",
    ),
    "add-task": (
        "medusa_core.cli.add_task:command",
        "Train a head for a task, or take one from a file.",
    ),
    "estimate": (
        "medusa_core.cli.estimate:command",
        "Predict in seconds what a head would reach.",
    ),
    "remove-task": ("medusa_core.cli.remove_task:command", "Remove a head."),
    "rename-head": ("medusa_core.cli.rename_head:command", "Give a head another name."),
    "export": (
        "medusa_core.cli.export:command",
        "Write heads to a file that runs without Medusa.",
    ),
    "export-head": (
        "medusa_core.cli.export_head:command",
        "Write a head to a file, for another model.",
    ),
    "list": ("medusa_core.cli.list:command", "Show the heads of a model."),
    "tasks": ("medusa_core.cli.tasks:command", "Show the tasks that can be added."),
    "datasets": ("medusa_core.cli.datasets:command", "Show the data sets that can be used."),
    "plugins": ("medusa_core.cli.plugins:command", "Show who provides tasks, heads and data sets."),
    "eval": ("medusa_core.cli.eval:command", "Measure heads on a data set."),
    "predict": ("medusa_core.cli.predict:command", "Run heads on images and videos."),
    "bench": ("medusa_core.cli.bench:command", "Time a model on this machine."),
    "verify": ("medusa_core.cli.verify:command", "Check that a model is what it was."),
    "doctor": ("medusa_core.cli.doctor:command", "Check what medusa needs of this machine."),
}
"""Name → (import path, one-line help); the order is that of `medusa --help`."""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    name="medusa",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("medusa demo", "medusa add-task depth", "medusa eval --tasks depth"),
)
@click.option("--debug", is_flag=True, help="Show tracebacks and the warnings of libraries.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.version_option(__version__, prog_name="medusa")
def medusa(debug: bool, quiet: bool) -> None:
    """One frozen backbone, many task heads, added and removed one at a time."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _wait_without_spinning()
    return run(medusa, args)


def _wait_without_spinning() -> None:
    """Have threads that wait for others give up their processor soon, unless the user says how.

    Where other work needs the processors, those that spin keep it from the ones they wait for, and
    everything takes many times as long. GNU OpenMP, PyTorch's on Linux, reads this as it is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
