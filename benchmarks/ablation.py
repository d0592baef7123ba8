"""What each part of the default head brings, and at which cost.

Heads of many kinds are trained on one frozen backbone and judged on the *selection* part of the
training data: choices made from this table have not seen the images that other tables report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any, cast

import click

from benchmarks.comparison import Options, comparison_options, devices
from benchmarks.jobs import Job
from benchmarks.protocol import Setting, Workbench, photographs, rooms
from benchmarks.report import RESULTS, document, seeds_and_devices
from benchmarks.scatter import Point, scatter
from benchmarks.trainings import Decoder, Features, Network, Training, written
from medusa_core.metrics import relative_gain

DEFAULT = "medusa"
REFERENCE = "plain HRNet"
LOWEST_DRAWN = -10.0
"""Gain in %, of pictures."""


@dataclass(frozen=True)
class Variant:
    """A head to compare: an architecture, and settings that differ from its defaults."""

    group: str
    name: str
    head: str = DEFAULT
    settings: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("default", DEFAULT),
    Variant("feature attention", "none", settings={"feature_attention": "none"}),
    Variant("feature attention", "spatial", settings={"feature_attention": "spatial"}),
    Variant("feature attention", "channel", settings={"feature_attention": "channel"}),
    Variant("scale attention", "sum", settings={"scale_attention": "sum"}),
    Variant("scale attention", "concatenation", settings={"scale_attention": "concatenation"}),
    Variant("top-down path", "none", settings={"top_down": False}),
    Variant("refinement", "none", settings={"refinement": "none"}),
    Variant("refinement", "full", settings={"refinement": "full"}),
    Variant("width", "16", settings={"width": 16}),
    Variant("width", "64", settings={"width": 64}),
    Variant("fused width", "16", settings={"fused_width": 16}),
    Variant("fused width", "64", settings={"fused_width": 64}),
    Variant("context", "on", settings={"context": True}),
    Variant("context", "off", settings={"context": False}),
    Variant("fused refinement", "2", settings={"fused_refinement": 2}),
    Variant("fused refinement", "0", settings={"fused_refinement": 0}),
    Variant("shortcut", "on", settings={"shortcut": True}),
    Variant("shortcut", "off", settings={"shortcut": False}),
    Variant("deep supervision", "0", settings={"deep_supervision": 0.0}),
    Variant("deep supervision", "0.25", settings={"deep_supervision": 0.25}),
    Variant("other heads", "linear", head="linear"),
    Variant("other heads", "hypercolumn", head="hypercolumn"),
    Variant("other heads", "plain HRNet", head="plain"),
    Variant("other heads", "MTI-Net, one task", head="mtinet_task"),
    Variant("other heads", "FPN", head="fpn"),
    Variant("other heads", "DPT fusion", head="dpt"),
    Variant("other heads", "tokens", head="tokens"),
)


@dataclass(frozen=True)
class Place:
    """Where variants are compared: tasks on one frozen backbone."""

    setting: Setting
    sources: tuple[str, ...]
    tasks: tuple[str, ...]


def places(quick: bool) -> list[Place]:
    """Synthetic rooms, and photographs where there are any."""
    found = [
        Place(rooms(quick), ("semseg", "depth"), ("normals", "edges", "saliency", "human_parts"))
    ]
    nyu = photographs(quick)
    return found if nyu is None else [*found, Place(nyu, (), ("depth", "semseg"))]


@click.command()
@comparison_options(seeds=1)
def main(options: Options) -> None:
    """Train what is missing and write results/ablation.{json,md,svg}."""
    known = {place.setting.name: place for place in places(options.quick)}
    record = options.answer("ablation", known, partial(jobs, options), partial(ask, options))
    options.publish("ablation", record, render(record))
    if not options.quick:
        for result in record["answers"]:
            (RESULTS / _picture(result)).write_text(plot(result))


def jobs(options: Options, place: Place, seed: int) -> list[Job]:
    """All trainings of a place with one seed."""
    bench = options.bench(place.setting)
    decoders = [one for variant in VARIANTS for one in _decoders(place, variant, seed).values()]
    every: list[Training] = [Features(_network(place, seed), place.tasks), *decoders]
    return [Job(bench, training, scored=False) for training in every]


def ask(options: Options, place: Place, seeds: Sequence[int]) -> dict[str, Any]:
    """What the variants have shown at a place, and their gain over the plain head, as JSON."""
    bench = options.bench(place.setting)
    rows = [_row(bench, place, variant, seeds) for variant in VARIANTS]
    reference = next(row["figures"] for row in rows if row["name"] == REFERENCE)
    metrics = {task: bench.host.tasks.get(task).primary_metric for task in place.tasks}
    for row in rows:
        row["gain"] = relative_gain(
            row["figures"],
            reference,
            {task: metric.higher_is_better for task, metric in metrics.items()},
        )
    return {
        "backbone": place.setting.backbone,
        "steps": place.setting.head_steps,
        "metrics": {task: metric.model_dump(mode="json") for task, metric in metrics.items()},
        "devices": devices(
            bench,
            [d for s in seeds for v in VARIANTS for d in _decoders(place, v, s).values()],
        ),
        "rows": rows,
    }


def _network(place: Place, seed: int) -> Network:
    if not place.sources:
        return Network(seed)
    return Network(seed, place.sources, "plain", place.setting.source_steps)


def _decoders(place: Place, variant: Variant, seed: int) -> dict[str, Decoder]:
    network, steps = _network(place, seed), place.setting.head_steps
    return {
        task: Decoder(network, task, variant.head, steps, written(variant.settings))
        for task in place.tasks
    }


def _row(bench: Workbench, place: Place, variant: Variant, seeds: Sequence[int]) -> dict[str, Any]:
    facts = {
        task: [bench.facts(_decoders(place, variant, s)[task], scored=False) for s in seeds]
        for task in place.tasks
    }
    every = [fact for found in facts.values() for fact in found]
    primary = {task: bench.host.tasks.get(task).primary_metric.name for task in place.tasks}
    return {
        "group": variant.group,
        "name": variant.name,
        "figures": {
            task: fmean(cast("float", fact.figures[task][primary[task]]) for fact in found)
            for task, found in facts.items()
        },
        "gmacs": fmean(fact.gmacs for fact in every),
        "params": fmean(fact.params for fact in every),
        "cpu_seconds": sum(fact.cpu_seconds for fact in every) / len(seeds),
    }


def _picture(result: Mapping[str, Any]) -> str:
    return f"ablation-{result['name']}.svg"


def plot(result: Mapping[str, Any]) -> str:
    """Quality over cost as SVG, of rows that are not the default once more.

    What is far below the reference stands in the table alone: it would squeeze all others.
    """
    default = next(row for row in result["rows"] if row["group"] == "default")
    points = [
        Point(
            row["gmacs"],
            row["gain"],
            row["name"] if row["group"] == "other heads" else f"{row['group']}: {row['name']}",
            row["group"] == "default",
        )
        for row in result["rows"]
        if row["gmacs"] > 0
        and (row is default or row["figures"] != default["figures"])
        and row["gain"] > LOWEST_DRAWN
    ]
    return scatter(
        points,
        f"{result['name']}: heads on a frozen {result['backbone']}",
        "GMACs of a head at 480×640 (log)",
        f"gain over the {REFERENCE} head, %",
    )


def render(record: dict[str, Any]) -> str:
    """All of it as Markdown; the pictures lie beside it."""
    preface = (
        f"`{record['command']}`, scores on the selection part. Gain: mean relative improvement "
        "over the plain HRNet head. GMACs (480×640) and parameters are means over the tasks."
    )
    title = "Ablation: what each part of the default head brings"
    return document(title, preface, map(section, record["answers"]), record)


def section(result: dict[str, Any]) -> str:
    """One place as Markdown."""
    heads = [
        f"{task} {ref['name']} {'↑' if ref['higher_is_better'] else '↓'}"
        for task, ref in result["metrics"].items()
    ]
    columns = ["part", "variant", *heads, "gain %", "GMACs", "params", "CPU s"]
    lines = [
        f"## {result['name']}: heads on a frozen `{result['backbone']}`",
        "",
        f"{result['steps']} steps a head, {seeds_and_devices(result)}.",
        "",
        f"![quality over cost]({_picture(result)})",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for row in result["rows"]:
        figures = [f"{row['figures'][task]:.3f}" for task in result["metrics"]]
        cells = [row["group"], row["name"], *figures, f"{row['gain']:+.1f}"]
        cells += [f"{row['gmacs']:.3f}", f"{row['params'] / 1e6:.3f} M"]
        cells += [f"{row['cpu_seconds']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
