"""Options that the comparisons share, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from benchmarks.gains import Run
from benchmarks.jobs import Job, finished, work_off
from benchmarks.protocol import Setting, Workbench
from benchmarks.rendered import read_rooms_from
from benchmarks.report import RESULTS, machine, save
from benchmarks.trainings import Training

SEEDS = 10
"""Results of so many seeds are looked for. None is left out that was ever done."""

Item = TypeVar("Item")
Jobs = Callable[[Item, int], list[Job]]
Ask = Callable[[Item, Sequence[int]], dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """How a comparison is run.

    work: folder of networks. results: folder of what trainings have shown. seeds: of all trainings.
    only: train for questions whose name holds this text. device: to train on. workers: processes.
    """

    work: Path
    results: Path
    seeds: Sequence[int]
    only: str | None
    quick: bool
    device: str
    workers: int

    def chosen(self, by_name: Mapping[str, Item]) -> list[Item]:
        """What is asked for.

        Raises:
            UsageError: nothing is named like that; lists what there is.
        """
        found = [item for name, item in by_name.items() if self.only is None or self.only in name]
        if not found:
            raise click.UsageError(
                f"--only {self.only}: part of one of these is needed: {'; '.join(by_name)}. Those "
                "on photographs are there when MEDUSA_REAL_DATA is set."
            )
        return found

    def bench(self, setting: Setting) -> Workbench:
        """Where its trainings are done."""
        return Workbench(setting, self.work, self.results, self.device)

    def work_off(self, jobs: Iterable[Job]) -> None:
        """Train what is missing."""
        wanted = list(jobs)
        on_rooms = [job for job in wanted if job.bench.setting.data == "rooms"]
        if not self.quick and not finished(on_rooms):
            read_rooms_from(self.work, self.workers)
        work_off(wanted, self.workers)

    def answer(
        self, name: str, known: Mapping[str, Item], jobs: Jobs[Item], ask: Ask[Item]
    ) -> dict[str, Any]:
        """Train what is missing, and tell what is known.

        Args:
            name: of the benchmark.
            known: all its questions, by name.
            jobs: the trainings that answer one with one seed.
            ask: its answer with some seeds, as JSON.

        Returns:
            Answers to all questions with all seeds that are done, asked for or not; `unanswered`
            are the others.
        """
        chosen = self.chosen(known)
        self.work_off(job for item in chosen for seed in self.seeds for job in jobs(item, seed))
        done = {
            title: [
                seed for seed in sorted({*self.seeds, *range(SEEDS)}) if finished(jobs(item, seed))
            ]
            for title, item in known.items()
        }
        return {
            "command": f"python -m benchmarks.{name}",
            **machine(),
            "answers": [
                {"name": title, "seeds": seeds, **ask(known[title], seeds)}
                for title, seeds in done.items()
                if seeds
            ],
            "unanswered": [title for title, seeds in done.items() if not seeds],
        }

    def publish(self, name: str, record: Mapping[str, Any], page: str) -> None:
        """Print a page, and write it to results/NAME.md beside its record; not if it is `quick`.

        Raises:
            ClickException: the record that is there answers a question that this one does not, or
                with more seeds.
        """
        print(page)
        if self.quick:
            return
        path = RESULTS / f"{name}.json"
        lost = _answered(json.loads(path.read_text()) if path.exists() else {}) - _answered(record)
        if lost:
            raise click.ClickException(
                f"Not saved: {path.name} has answers that this run has not: "
                f"{', '.join(sorted(lost))}. Is MEDUSA_REAL_DATA set? Are there as many --seeds? "
                "To write it nevertheless, remove that file."
            )
        save(name, record, page)


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
        @click.option("--only", help="Train for what is named like this.")
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


def _answered(record: Mapping[str, Any]) -> set[str]:
    return {f"{a['name']} (seed {seed})" for a in record.get("answers", []) for seed in a["seeds"]}


def devices(bench: Workbench, trainings: Iterable[Training]) -> list[str]:
    """What they were trained on."""
    return sorted({bench.facts(training, scored=False).device for training in trainings})


def merged(bench: Workbench, parts: Sequence[Training]) -> Run:
    """What several trainings reach, as of one method."""
    return {task: found for part in parts for task, found in bench.run(part).items()}
