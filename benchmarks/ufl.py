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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from benchmarks.comparison import Options, comparison_options, devices, merged
from benchmarks.gains import Comparison
from benchmarks.jobs import Job
from benchmarks.protocol import Setting, Workbench, photographs, rooms
from benchmarks.report import SINGLE_TASK, comparison_table, document, seeds_and_devices
from benchmarks.trainings import Coupled, Decoder, Features, Network, Training
from medusa_core.errors import UsageError

METHODS = ("plain", "linear", "mtinet_task", "medusa")
COUPLED = "mtinet (all anew)"


@dataclass(frozen=True)
class Question:
    """One comparison: what the backbone has seen, and what is asked of it.

    sources: tasks of the source network; none: the first weights are frozen as they are.
    coupled: whether MTI-Net is trained, too.
    methods: whose decoders are trained.
    relative_to: what gains are relative to: networks of single tasks, or one of the methods.
    """

    name: str
    setting: Setting
    sources: tuple[str, ...]
    unseen: tuple[str, ...]
    coupled: bool = False
    methods: tuple[str, ...] = METHODS
    relative_to: str = SINGLE_TASK

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
        # Decoders alone are quick, and three seeds leave the interval of the difference wide.
        Question(
            "nyu: frozen, against plain heads",
            nyu,
            (),
            ("depth", "semseg"),
            methods=("plain", "medusa"),
            relative_to="plain",
        ),
        # Not measured but computed from depth and labels: no claim rests on these.
        Question("nyu: frozen, derived targets", nyu, (), ("normals", "edges")),
        Question("nyu: semseg → depth", nyu, ("semseg",), ("depth",)),
        Question("nyu: depth → semseg", nyu, ("depth",), ("semseg",)),
    ]


@dataclass(frozen=True)
class Trainings:
    """What answers a question with one seed."""

    source: Network
    features: Features
    decoders: Mapping[str, Sequence[Decoder]]
    coupled: Coupled | None
    reference: Sequence[Network | Decoder]

    def jobs(self, bench: Workbench) -> list[Job]:
        """All of it; long ones first."""
        decoders = [one for method in self.decoders.values() for one in method]
        coupled = [] if self.coupled is None else [self.coupled]
        source = Job(bench, self.source, scored=False)
        rest = [self.features, *self.reference, *coupled, *decoders]
        return [source, *(Job(bench, training) for training in rest)]


def trainings(question: Question, seed: int) -> Trainings:
    """Source network, decoders and references with one seed."""
    setting = question.setting
    source, steps = Network(seed), setting.head_steps
    if question.sources:
        source = Network(seed, question.sources, "plain", setting.source_steps)
        steps += setting.source_steps
    every = (*question.sources, *question.unseen)
    decoders = {
        method: [Decoder(source, t, method, setting.head_steps) for t in question.unseen]
        for method in question.methods
    }
    alone = [Network(seed, (task,), "plain", steps) for task in question.unseen]
    return Trainings(
        source,
        Features(source, question.unseen),
        decoders,
        Coupled(source, "mtinet", every, setting.head_steps, frozen=True)
        if question.coupled
        else None,
        alone if question.relative_to == SINGLE_TASK else decoders[question.relative_to],
    )


@click.command()
@comparison_options()
def main(options: Options) -> None:
    """Train what is missing, score, and write results/ufl.{json,md}."""
    known = {question.name: question for question in questions(options.quick)}
    record = options.answer("ufl", known, partial(jobs, options), partial(ask, options))
    options.publish("ufl", record, render(record))


def jobs(options: Options, question: Question, seed: int) -> list[Job]:
    """All trainings of a question with one seed."""
    return trainings(question, seed).jobs(options.bench(question.setting))


def ask(options: Options, question: Question, seeds: Sequence[int]) -> dict[str, Any]:
    """What a question's trainings have shown, as JSON."""
    bench = options.bench(question.setting)
    by_seed = [trainings(question, seed) for seed in seeds]
    methods = question.methods
    runs = {method: [merged(bench, one.decoders[method]) for one in by_seed] for method in methods}
    facts = {
        method: [bench.facts(one) for one in by_seed[0].decoders[method]] for method in methods
    }
    costs = {
        method: {
            "gmacs": statistics.fmean(fact.gmacs for fact in found),
            "params": statistics.fmean(fact.params for fact in found),
        }
        for method, found in facts.items()
    }
    coupled = [one.coupled for one in by_seed if one.coupled is not None]
    if coupled:
        runs[COUPLED] = [bench.run(one) for one in coupled]
        fact = bench.facts(coupled[0])
        costs[COUPLED] = {"gmacs": fact.gmacs, "params": fact.params}
    decoders = [d for one in by_seed for method in methods for d in one.decoders[method]]
    trained: list[Training] = [*decoders, *coupled]
    seconds = sum(bench.facts(one).cpu_seconds for one in trained)
    references = [training for one in by_seed for training in one.reference]
    metrics = {task: bench.judged_by(task) for task in question.unseen}
    reference = [merged(bench, one.reference) for one in by_seed]
    return {
        "sources": list(question.sources),
        "relative_to": question.relative_to,
        "setting": question.setting.as_json(),
        "source_heads_unchanged": all(bench.facts(one).unmoved for one in decoders),
        "decoder_cpu_hours": seconds / 3600,
        "devices": devices(bench, [*decoders, *coupled, *references]),
        **Comparison(metrics, runs, reference).as_json(costs),
    }


def section(result: dict[str, Any]) -> str:
    """One question's answer as Markdown."""
    sources = " + ".join(result["sources"]) or "nothing but the first weights"
    moved = "bit-identical" if result["source_heads_unchanged"] else "CHANGED"
    setting = result["setting"]
    before = (
        f"{setting['source_steps']} steps for the source network, " if result["sources"] else ""
    )
    against = result["relative_to"]
    delta = "Δ_UFL" if against == SINGLE_TASK else f"gain over {against}"
    return "\n".join(
        [
            f"## {result['name']}",
            "",
            f"Backbone `{setting['backbone']}`, sources: {sources}; {before}"
            f"{setting['head_steps']} steps for a decoder, batches of {setting['batch']}, "
            f"{seeds_and_devices(result)}. Decoders took {result['decoder_cpu_hours']:.2f} process "
            f"hours. Source heads after all others were added: {moved}.",
            "",
            *comparison_table(result, delta, against),
            "",
        ]
    )


def render(record: dict[str, Any]) -> str:
    """All of it as Markdown."""
    preface = (
        f"`{record['command']}`. Figures are means over seeds on *val*. "
        "Δ_UFL: mean relative gain over networks of single tasks with as many image visits. "
        "Differences are Medusa minus the method in points of Δ, with 95 % intervals over seeds "
        "(t) and over images (paired bootstrap). GMACs and parameters are of one decoder (MTI-Net "
        "all anew: of the one for all tasks), 480×640. "
        "For comparison: the paper's abstract reports +13.18 % in UFL over previous approaches, on "
        "other data."
    )
    title = "Universal feature learning: new tasks on a frozen backbone"
    return document(title, preface, map(section, record["answers"]), record)


if __name__ == "__main__":
    main()
