"""Options that the comparisons share, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from benchmarks.gains import Run
from benchmarks.jobs import Job, work_off
from benchmarks.protocol import Setting, Workbench
from benchmarks.report import RESULTS, machine
from benchmarks.trainings import Training

Item = TypeVar("Item")


@dataclass(frozen=True)
class Options:
    """How a comparison is run.

    work: folder of networks. results: folder of what trainings have shown. seeds: of all trainings.
    only: questions whose name holds this text. device: to train on. workers: processes.
    """

    work: Path
    results: Path
    seeds: Sequence[int]
    only: str | None
    quick: bool
    device: str
    workers: int

    @property
    def recorded(self) -> bool:
        """Whether the results are whole, and written down."""
        return not self.quick and self.only is None

    def chosen(self, by_name: Mapping[str, Item]) -> list[Item]:
        """What is asked for.

        Raises:
            UsageError: nothing is named like that; lists what there is.
        """
        found = [item for name, item in by_name.items() if self.only is None or self.only in name]
        if not found:
            raise click.UsageError(f"--only {self.only}: one of {', '.join(by_name)} is needed.")
        return found

    def bench(self, setting: Setting) -> Workbench:
        """Where its trainings are done."""
        return Workbench(setting, self.work, self.results, self.device)

    def work_off(self, jobs: Iterable[Job]) -> None:
        """Train what is missing."""
        work_off(jobs, self.workers)

    def record(self) -> dict[str, Any]:
        """Seeds, versions and processor."""
        return {"seeds": len(self.seeds), **machine()}


def comparison_options(
    seeds: int = 3,
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Options of every comparison, given to the command as one object.

    Args:
        seeds: how many, unless the user says so.
    """

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        @click.option("--work", type=click.Path(path_type=Path), default=Path("ufl-work"))
        @click.option("--seeds", type=int, default=seeds, show_default=True)
        @click.option(
            "--results",
            type=click.Path(path_type=Path),
            default=RESULTS / "trainings",
            help="What trainings have shown: read, and added to. Empty: all are done anew.",
        )
        @click.option("--only", help="What is named like this; nothing is recorded.")
        @click.option("--quick", is_flag=True, help="A few steps; nothing is recorded.")
        @click.option("--device", default="cpu", show_default=True, help="To train on.")
        @click.option("--workers", default=1, show_default=True, help="Trainings at a time.")
        @wraps(command)
        def with_options(**given: Any) -> None:
            torch.set_num_threads(1)  # CPU time is steadiest so
            given["seeds"] = range(1 if given["quick"] else given["seeds"])
            if given["quick"]:
                given["results"] = given["work"] / "results"
            command(Options(**given))

        return with_options

    return decorate


def devices(bench: Workbench, trainings: Iterable[Training]) -> list[str]:
    """What they were trained on."""
    return sorted({bench.facts(training).device for training in trainings})


def merged(bench: Workbench, parts: Sequence[Training]) -> Run:
    """What several trainings reach, as of one method."""
    return {task: found for part in parts for task, found in bench.run(part).items()}
