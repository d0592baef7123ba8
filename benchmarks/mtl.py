"""Multi-task learning: backbone and decoders trained jointly, against networks of single tasks.

Every network starts from the same first weights and visits as many images; Δ_MTL is relative to
networks of single tasks with plain heads.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.gains import Comparison, Run
from benchmarks.peers.coupled import CoupledDecoder, MTINet, PADNet
from benchmarks.protocol import Setting, Workbench, rooms
from benchmarks.report import (
    comparison_options,
    comparison_table,
    document,
    machine,
    save,
)

HEADS = ("plain", "medusa")
COUPLED: dict[str, type[CoupledDecoder]] = {"mtinet": MTINet, "padnet": PADNet}


@dataclass(frozen=True)
class Question:
    """Which tasks together, and by which coupled decoders beside the independent heads."""

    name: str
    setting: Setting
    tasks: tuple[str, ...]
    coupled: tuple[str, ...]


def questions(quick: bool) -> list[Question]:
    """The questions asked."""
    four = ("semseg", "depth", "normals", "edges")
    return [
        Question("rooms: four tasks", rooms(quick), four, ("mtinet",)),
        Question("rooms: two tasks", rooms(quick), four[:2], ("mtinet", "padnet")),
    ]


@click.command()
@comparison_options
def main(work: Path, seeds: int, draws: int, only: str | None, quick: bool) -> None:
    """Train what is missing, score, and write results/mtl.{json,md}."""
    torch.set_num_threads(1)  # CPU time is steadiest so
    seeds, draws = (1, 50) if quick else (seeds, draws)
    results = []
    for question in questions(quick):
        if only is None or only in question.name:
            results.append(ask(question, work, range(seeds), draws))
            print(section(results[-1]), flush=True)
    record = {"command": "python -m benchmarks.mtl", "seeds": seeds, **machine()}
    record |= {"questions": results}
    if not quick and only is None:
        save("mtl", record, render(record))


def ask(question: Question, work: Path, seeds: Sequence[int], draws: int) -> dict[str, Any]:
    """Everything about one question, as JSON."""
    bench = Workbench(question.setting, work)
    steps = question.setting.source_steps + question.setting.head_steps
    methods = (*HEADS, *question.coupled)
    runs: dict[str, list[Run]] = {method: [] for method in methods}
    reference: list[Run] = []
    costs: dict[str, dict[str, float]] = {}
    for seed in seeds:
        single: dict[str, Any] = {}
        for task in question.tasks:
            single |= bench.scores(bench.network(seed, (task,), "plain", steps), [task])
        reference.append(single)
        for method in HEADS:
            network = bench.network(seed, question.tasks, method, steps)
            runs[method].append(bench.scores(network, question.tasks))
            records = bench.manifests(network, question.tasks).values()
            costs[method] = {
                "gmacs": sum(record.gmacs for record in records),
                "params": sum(record.params for record in records),
            }
        for method in question.coupled:
            decoder = COUPLED[method]
            model, path = bench.coupled(
                seed, bench.start(seed), decoder, question.tasks, steps, frozen=False
            )
            runs[method].append(bench.coupled_scores(model, path))
            costs[method] = model.costs()
    metrics = {task: bench.judged_by(task) for task in question.tasks}
    return {
        "question": question.name,
        "setting": {**asdict(question.setting), "weights": None},
        "steps": steps,
        **Comparison(metrics, runs, reference).as_json(costs, draws),
    }


def section(result: dict[str, Any]) -> str:
    """One question's answer as Markdown."""
    best = max(statistics.fmean(row["gains"]) for row in result["methods"].values())
    return "\n".join(
        [
            f"## {result['question']}",
            "",
            f"Backbone `{result['setting']['backbone']}`, {result['steps']} steps of "
            f"{result['setting']['batch']} for every network. Best Δ_MTL: {best:+.2f} %.",
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
