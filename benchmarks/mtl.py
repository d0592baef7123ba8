"""Multi-task learning: backbone and decoders trained jointly, against networks of single tasks.

Every network starts from the same first weights and visits as many images; Δ_MTL is relative to
networks of single tasks with plain heads.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from benchmarks.comparison import Options, comparison_options, devices, merged
from benchmarks.gains import Comparison
from benchmarks.jobs import Job
from benchmarks.protocol import Setting, rooms
from benchmarks.report import comparison_table, document, save
from benchmarks.trainings import Coupled, CoupledKind, Network

HEADS = ("plain", "medusa")


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
        method: Network(seed, question.tasks, method, steps) for method in HEADS
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
    asked = options.chosen({question.name: question for question in questions(options.quick)})
    options.work_off(jobs(asked, options))
    results = []
    for question in asked:
        results.append(ask(question, options))
        print(section(results[-1]), flush=True)
    record = {"command": "python -m benchmarks.mtl", **options.record(), "questions": results}
    if options.recorded:
        save("mtl", record, render(record))


def jobs(asked: Sequence[Question], options: Options) -> list[Job]:
    """All trainings of some questions."""
    return [
        Job(options.bench(question.setting), training)
        for question in asked
        for seed in options.seeds
        for training in [*trainings(question, seed).values(), *references(question, seed)]
    ]


def ask(question: Question, options: Options) -> dict[str, Any]:
    """Everything about one question, as JSON."""
    bench = options.bench(question.setting)
    by_seed = [trainings(question, seed) for seed in options.seeds]
    runs = {method: [bench.run(one[method]) for one in by_seed] for method in by_seed[0]}
    facts = {method: bench.facts(training) for method, training in by_seed[0].items()}
    costs = {method: {"gmacs": fact.gmacs, "params": fact.params} for method, fact in facts.items()}
    reference = [merged(bench, references(question, seed)) for seed in options.seeds]
    metrics = {task: bench.judged_by(task) for task in question.tasks}
    return {
        "question": question.name,
        "setting": question.setting.as_json(),
        "steps": question.steps,
        "devices": devices(
            bench,
            [t for one in by_seed for t in one.values()]
            + [t for seed in options.seeds for t in references(question, seed)],
        ),
        **Comparison(metrics, runs, reference).as_json(costs),
    }


def section(result: dict[str, Any]) -> str:
    """One question's answer as Markdown."""
    best = max(statistics.fmean(row["gains"]) for row in result["methods"].values())
    return "\n".join(
        [
            f"## {result['question']}",
            "",
            f"Backbone `{result['setting']['backbone']}`, {result['steps']} steps of "
            f"{result['setting']['batch']} for every network, on {'; '.join(result['devices'])}. "
            f"Best Δ_MTL: {best:+.2f} %.",
            "",
            *comparison_table(result, "Δ_MTL"),
            "",
        ]
    )


def render(record: dict[str, Any]) -> str:
    """All of it as Markdown."""
    preface = (
        f"`{record['command']}`, {record['seeds']} seeds. Figures are means over seeds on *val*. "
        "Δ_MTL: mean relative gain over networks of single tasks. Differences are Medusa minus "
        "the method in points of Δ, with 95 % intervals over seeds (t) and over images (paired "
        "bootstrap). GMACs and parameters are of all decoders, 480×640."
    )
    title = "Multi-task learning: tasks trained jointly"
    return document(title, preface, map(section, record["questions"]), record)


if __name__ == "__main__":
    main()
