"""Multi-task learning: backbone and decoders trained jointly, against networks of single tasks.

Every network starts from the same first weights and visits as many images; Δ_MTL is relative to
networks of single tasks with plain heads.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from benchmarks.comparison import Options, comparison_options, devices, merged
from benchmarks.gains import Comparison
from benchmarks.jobs import Job
from benchmarks.protocol import Setting, rooms
from benchmarks.report import comparison_table, document, seeds_and_devices
from benchmarks.trainings import Coupled, CoupledKind, Network, written

WIDE = {"fused_width": 128, "shortcut": False}
METHODS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "plain": ("plain", {}),
    "medusa": ("medusa", {}),
    "medusa wide": ("medusa", WIDE),
}
"""Independent heads: an architecture, and what of it is not the default."""


@dataclass(frozen=True)
class Question:
    """Which tasks together, and by which coupled decoders beside the independent heads."""

    name: str
    setting: Setting
    tasks: tuple[str, ...]
    coupled: tuple[CoupledKind, ...]

    @property
    def steps(self) -> int:
        """Of every network."""
        return self.setting.source_steps + self.setting.head_steps


def questions(quick: bool) -> list[Question]:
    """The questions asked."""
    four = ("semseg", "depth", "normals", "edges")
    return [
        Question("rooms: four tasks", rooms(quick), four, ("mtinet",)),
        Question("rooms: two tasks", rooms(quick), four[:2], ("mtinet", "padnet")),
    ]


def trainings(question: Question, seed: int) -> dict[str, Network | Coupled]:
    """A network a method."""
    steps = question.steps
    networks: dict[str, Network | Coupled] = {
        method: Network(seed, question.tasks, head, steps, written(settings))
        for method, (head, settings) in METHODS.items()
    }
    for method in question.coupled:
        networks[method] = Coupled(Network(seed), method, question.tasks, steps, frozen=False)
    return networks


def references(question: Question, seed: int) -> list[Network]:
    """Networks of single tasks."""
    return [Network(seed, (task,), "plain", question.steps) for task in question.tasks]


@click.command()
@comparison_options()
def main(options: Options) -> None:
    """Train what is missing, score, and write results/mtl.{json,md}."""
    known = {question.name: question for question in questions(options.quick)}
    record = options.answer("mtl", known, partial(jobs, options), partial(ask, options))
    options.publish("mtl", record, render(record))


def jobs(options: Options, question: Question, seed: int) -> list[Job]:
    """All trainings of a question with one seed."""
    every = [*trainings(question, seed).values(), *references(question, seed)]
    return [Job(options.bench(question.setting), training) for training in every]


def ask(options: Options, question: Question, seeds: Sequence[int]) -> dict[str, Any]:
    """What a question's trainings have shown, as JSON."""
    bench = options.bench(question.setting)
    by_seed = [trainings(question, seed) for seed in seeds]
    runs = {method: [bench.run(one[method]) for one in by_seed] for method in by_seed[0]}
    facts = {method: bench.facts(training) for method, training in by_seed[0].items()}
    costs = {method: {"gmacs": fact.gmacs, "params": fact.params} for method, fact in facts.items()}
    reference = [merged(bench, references(question, seed)) for seed in seeds]
    metrics = {task: bench.judged_by(task) for task in question.tasks}
    return {
        "setting": question.setting.as_json(),
        "steps": question.steps,
        "devices": devices(
            bench,
            [t for one in by_seed for t in one.values()]
            + [t for seed in seeds for t in references(question, seed)],
        ),
        **Comparison(metrics, runs, reference).as_json(costs),
    }


def section(result: dict[str, Any]) -> str:
    """One question's answer as Markdown."""
    best = max(statistics.fmean(row["gains"]) for row in result["methods"].values())
    return "\n".join(
        [
            f"## {result['name']}",
            "",
            f"Backbone `{result['setting']['backbone']}`, {result['steps']} steps of "
            f"{result['setting']['batch']} for every network, {seeds_and_devices(result)}. "
            f"Best Δ_MTL: {best:+.2f} %.",
            "",
            *comparison_table(result, "Δ_MTL"),
            "",
        ]
    )


def render(record: dict[str, Any]) -> str:
    """All of it as Markdown."""
    preface = (
        f"`{record['command']}`. Figures are means over seeds on *val*. "
        "Δ_MTL: mean relative gain over networks of single tasks. Differences are Medusa minus "
        "the method in points of Δ, with 95 % intervals over seeds (t) and over images (paired "
        "bootstrap). GMACs and parameters are of all decoders, 480×640. “medusa wide” is "
        f"the same head with {' and '.join(f'`{key}={value}`' for key, value in WIDE.items())}."
    )
    title = "Multi-task learning: tasks trained jointly"
    return document(title, preface, map(section, record["answers"]), record)


if __name__ == "__main__":
    main()
