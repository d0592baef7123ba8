"""Universal feature learning: what heads make of a frozen backbone that never saw their task.

A source network is trained jointly on some tasks (with HRNet's plain heads, which favour none of
the methods) and frozen. Then every method trains its own decoder for each task that was left out.
References are networks of single tasks: the same first weights, a plain head, and as many image
visits as source and decoder had together. Δ_UFL is relative to them.

Heads of all methods lie side by side in one model folder, and adding them leaves those of the
source tasks as they are. MTI-Net has one decoder for all tasks: a new task means a new decoder, and
other predictions for the tasks that were there.
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
from benchmarks.peers.coupled import MTINet
from benchmarks.protocol import Setting, Workbench, photographs, rooms, sha256
from benchmarks.report import (
    comparison_options,
    comparison_table,
    document,
    machine,
    save,
)
from medusa_core.errors import UsageError
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout

METHODS = ("plain", "linear", "mtinet_task", "medusa")
COUPLED = "mtinet (all anew)"


@dataclass(frozen=True)
class Question:
    """One comparison: what the backbone has seen, and what is asked of it.

    sources: tasks of the source network; none: the first weights are frozen as they are.
    coupled: whether MTI-Net is trained, too.
    """

    name: str
    setting: Setting
    sources: tuple[str, ...]
    unseen: tuple[str, ...]
    coupled: bool = False

    def __post_init__(self) -> None:
        """Refuse a task on both sides.

        Raises:
            UsageError: names it.
        """
        both = sorted({*self.sources} & {*self.unseen})
        if both:
            raise UsageError(f"{self.name}: {', '.join(both)} cannot be both source and unseen.")


def questions(quick: bool) -> list[Question]:
    """The questions asked, those on photographs only where there are photographs."""
    sources, unseen = ("semseg", "depth"), ("normals", "edges", "saliency", "human_parts")
    asked = [
        Question("rooms: two sources, four unseen", rooms(quick), sources, unseen, coupled=True),
        *(
            Question(f"rooms: all but {left_out}", rooms(quick), others, (left_out,))
            for left_out in sources
            for others in [tuple(task for task in (*sources, *unseen) if task != left_out)]
        ),
    ]
    nyu = photographs(quick)
    if nyu is None:
        return asked
    return [
        *asked,
        Question("nyu: frozen ImageNet weights", nyu, (), ("depth", "semseg")),
        # Not measured but computed from depth and labels: no claim rests on these.
        Question("nyu: frozen, derived targets", nyu, (), ("normals", "edges")),
        Question("nyu: semseg → depth", nyu, ("semseg",), ("depth",)),
        Question("nyu: depth → semseg", nyu, ("depth",), ("semseg",)),
    ]


@click.command()
@comparison_options
def main(work: Path, seeds: int, draws: int, only: str | None, quick: bool) -> None:
    """Train what is missing, score, and write results/ufl.{json,md}."""
    torch.set_num_threads(1)  # CPU time is steadiest so
    seeds, draws = (1, 50) if quick else (seeds, draws)
    results = []
    for question in questions(quick):
        if only is None or only in question.name:
            results.append(ask(question, work, range(seeds), draws))
            print(section(results[-1]), flush=True)
    record = {"command": "python -m benchmarks.ufl", "seeds": seeds, **machine()}
    record["questions"] = results
    if not quick and only is None:
        save("ufl", record, render(record))


def ask(question: Question, work: Path, seeds: Sequence[int], draws: int) -> dict[str, Any]:
    """Everything about one question, as JSON."""
    bench = Workbench(question.setting, work)
    methods = [*METHODS, COUPLED] if question.coupled else list(METHODS)
    runs: dict[str, list[Run]] = {method: [] for method in methods}
    reference: list[Run] = []
    costs: dict[str, dict[str, float]] = {}
    seconds, unchanged = 0.0, True
    for seed in seeds:
        source, kept = _source(bench, question, seed)
        names = {
            (task, method): bench.head(source, seed, task, method, question.setting.head_steps)
            for task in question.unseen
            for method in METHODS
        }
        unchanged &= kept == _hashes(source, question.sources)
        scores = bench.scores(source, list(names.values()))
        for method in METHODS:
            runs[method].append({task: scores[names[task, method]] for task in question.unseen})
        records = bench.manifests(source, list(names.values()))
        seconds += sum(record.provenance["cpu_seconds"] for record in records.values())
        for method in METHODS:
            own = [records[names[task, method]] for task in question.unseen]
            costs[method] = {
                "gmacs": statistics.fmean(record.gmacs for record in own),
                "params": statistics.fmean(record.params for record in own),
            }
        if question.coupled:
            run, costs[COUPLED], spent = _coupled(bench, question, source, seed)
            runs[COUPLED].append(run)
            seconds += spent
        reference.append(_reference(bench, question, seed))
    metrics = {task: bench.judged_by(task) for task in question.unseen}
    return {
        "question": question.name,
        "sources": list(question.sources),
        "setting": {**asdict(question.setting), "data": question.setting.name, "weights": None},
        "source_heads_unchanged": unchanged,
        "decoder_cpu_hours": seconds / 3600,
        **Comparison(metrics, runs, reference).as_json(costs, draws),
    }


def _source(bench: Workbench, question: Question, seed: int) -> tuple[Path, dict[str, str]]:
    """The folder of the source network, and hashes of its heads."""
    if not question.sources:
        return bench.start(seed), {}
    steps = question.setting.source_steps
    source = bench.network(seed, question.sources, "plain", steps)
    return source, _hashes(source, question.sources)


def _hashes(model: Path, heads: Sequence[str]) -> dict[str, str]:
    with ModelFolder.open(model) as folder:
        revisions = folder.manifest.heads
    return {name: sha256(Layout(model).head_weights(name, revisions[name])) for name in heads}


def _reference(bench: Workbench, question: Question, seed: int) -> Run:
    setting = question.setting
    steps = setting.head_steps + (setting.source_steps if question.sources else 0)
    run = {}
    for task in question.unseen:
        network = bench.network(seed, (task,), "plain", steps)
        run |= bench.scores(network, [task])
    return run


def _coupled(
    bench: Workbench, question: Question, source: Path, seed: int
) -> tuple[Run, dict[str, float], float]:
    """Scores of the unseen tasks, costs, and CPU seconds of MTI-Net's decoder trained anew."""
    tasks = (*question.sources, *question.unseen)
    steps = question.setting.head_steps
    model, path = bench.coupled(seed, source, MTINet, tasks, steps, frozen=True)
    scores = bench.coupled_scores(model, path)
    run = {task: scores[task] for task in question.unseen}
    return run, model.costs(), model.outcome.cpu_seconds


def section(result: dict[str, Any]) -> str:
    """One question's answer as Markdown."""
    sources = " + ".join(result["sources"]) or "nothing but the first weights"
    moved = "bit-identical" if result["source_heads_unchanged"] else "CHANGED"
    setting = result["setting"]
    return "\n".join(
        [
            f"## {result['question']}",
            "",
            f"Backbone `{setting['backbone']}`, sources: {sources}; {setting['source_steps']} "
            f"steps for the source network, {setting['head_steps']} for a decoder, batches of "
            f"{setting['batch']}. Source heads after all others were added: {moved}.",
            "",
            *comparison_table(result, "Δ_UFL"),
            "",
        ]
    )


def render(record: dict[str, Any]) -> str:
    """All of it as Markdown."""
    hours = sum(result["decoder_cpu_hours"] for result in record["questions"])
    preface = (
        f"`{record['command']}`, {record['seeds']} seeds. Figures are means over seeds on *val*. "
        "Δ_UFL: mean relative gain over networks of single tasks with as many image visits. "
        "Differences are Medusa minus the method in points of Δ, with 95 % intervals over seeds "
        "(t) and over images (paired bootstrap). GMACs and parameters are of one decoder (MTI-Net "
        f"all anew: of the one for all tasks), 480×640. Decoders took {hours:.1f} CPU hours. For "
        "comparison: the paper's abstract reports +13.18 % in UFL over previous approaches, on "
        "other data."
    )
    title = "Universal feature learning: new tasks on a frozen backbone"
    return document(title, preface, map(section, record["questions"]), record)


if __name__ == "__main__":
    main()
