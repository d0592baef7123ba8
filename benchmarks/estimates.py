"""How often the truth falls inside what `medusa estimate` says.

Each case is estimated and then trained for real. The constants of `engine/estimation.py` are fitted
to all cases; the coverage that is reported comes from constants fitted without the cases of the
same backbone and data.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.report import machine, save
from medusa_core.api import MetricRef
from medusa_core.cli._progress import LineProgress
from medusa_core.engine import estimation
from medusa_core.engine.estimation import Evidence, extrapolate, to_scale
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.estimate import estimate
from medusa_core.workflows.init import init

ROOMS = ("semseg", "depth", "normals", "edges", "saliency", "human_parts")
SCHEDULES = ({"limit": 150, "steps": 240, "seed": 1}, {"limit": 600, "steps": 800, "seed": 0})
PHOTOGRAPHS = {
    "nyuv2": ("depth", "normals", "semseg", "edges"),
    "camvid": ("semseg",),
    "people": ("human_parts", "saliency"),
}
SIZE = (96, 128)
SHARES = [i / 20 for i in range(31)]


@click.command()
@click.option("--quick", is_flag=True, help="Two small cases; nothing is recorded.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("estimates-cases.jsonl"))
def main(quick: bool, out: Path) -> None:
    """Estimate, train, compare, and write results/estimates.{json,md}. Goes on where it was."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            out = Path(folder) / "cases.jsonl"
        known = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        done = {key_of(case) for case in known}
        for case in quick_cases() if quick else cases():
            if key_of(case) not in done:
                known.append(measure(case, Path(folder)))
                with out.open("a") as file:
                    file.write(json.dumps(known[-1]) + "\n")
        result = {
            "command": "python -m benchmarks.estimates",
            **machine(),
            **judge(known),
            "cases": known,
        }
    print(table(result))
    if not quick:
        save("estimates", result, table(result))


def cases() -> Iterator[dict[str, Any]]:
    """Six tasks on rooms, on three backbones, by two schedules; and photographs, if there are."""
    real = os.environ.get("MEDUSA_REAL_DATA")
    short, long = SCHEDULES
    backbones = ("bundled", "random hrnet_w18_small", *(["imagenet"] if real else []))
    for backbone, task in itertools.product(backbones, ROOMS):
        yield {"backbone": backbone, "data": "rooms", "task": task, **short}
    for data, tasks in PHOTOGRAPHS.items() if real else ():
        for task in tasks:
            options = {"limit": 300, "steps": 400, "seed": 0}
            yield {"backbone": "imagenet", "data": data, "task": task, **options}
    for backbone, task in itertools.product(backbones, ROOMS):
        yield {"backbone": backbone, "data": "rooms", "task": task, **long}


def quick_cases() -> Iterator[dict[str, Any]]:
    """Two of a tiny backbone."""
    for task in ("depth", "normals"):
        options = {"limit": 60, "steps": 60, "seed": 0}
        yield {"backbone": "random test_resnet", "data": "rooms", "task": task, **options}


def key_of(case: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells cases apart."""
    return tuple(case[name] for name in ("backbone", "data", "task", "limit", "steps", "seed"))


def measure(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The case with its estimate and the truth."""
    model = folder / case["backbone"].replace(" ", "-")
    real = Path(os.environ.get("MEDUSA_REAL_DATA", ""))
    if not model.exists():
        kind, _, name = case["backbone"].partition(" ")
        weights = real / "weights" / "mobilenetv2_100.features.safetensors"
        if kind == "imagenet":
            init(model, backbone="mobilenetv2_100", weights=weights)
        elif kind == "random":
            init(model, backbone=name, from_scratch=True)
        else:
            init(model)
    height, width = SIZE
    data = f"rooms:{height}x{width}" if case["data"] == "rooms" else f"folder:{real / case['data']}"
    options = {name: case[name] for name in ("limit", "steps", "seed")}
    options |= {"size": SIZE}
    progress = LineProgress()
    guess = estimate(case["task"], model=model, data=[data], progress=progress, **options)
    done = add_task(
        case["task"], model=model, data=[data], replace=True, progress=progress, **options
    )
    [head] = done["heads"].values()
    truth = head["metrics"][head["primary"]]
    print(case, guess["estimate"], (guess["low"], guess["high"]), truth, flush=True)
    return {
        **case,
        "metric": guess["metric"],
        "higher_is_better": guess["higher_is_better"],
        "truth": truth,
        "evidence": guess["based_on"]["evidence"],
        "estimate_seconds": guess["seconds"],
        "training_seconds": head["seconds"],
    }


def judge(known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Constants fitted to all cases, and how they do on cases they were not fitted to."""
    rows = left_out(known, ("backbone", "data"))
    growth, spread = fit(known)
    without = [position(case) - case["evidence"]["second"] for case in known]
    return {
        "growth": growth,
        "spread": spread,
        "level": estimation.LEVEL,
        "inside": inside(rows),
        "inside_other_tasks": inside(left_out(known, ("task",))),
        "cases_judged": len(rows),
        "rms_error": float(np.sqrt(np.mean([row["error"] ** 2 for row in rows]))),
        "rms_error_of_the_short_training": float(np.sqrt(np.mean(np.square(without)))),
        "median_width": float(np.median([row["width"] for row in rows])),
        "rows": rows,
    }


def left_out(known: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Error and half-width of every case, by constants fitted to those that differ in `names`."""
    rows = []
    for case in known:
        rest = [other for other in known if any(other[n] != case[n] for n in names)]
        middle, width = extrapolate(Evidence(**case["evidence"]), *fit(rest or known))
        rows.append({"case": key_of(case), "error": position(case) - middle, "width": width})
    return rows


def inside(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many truths lie within the error bar."""
    return sum(abs(row["error"]) <= row["width"] for row in rows)


def fit(known: Sequence[Mapping[str, Any]]) -> tuple[float, tuple[float, float, float]]:
    """Growth with the least absolute errors; spread so that `LEVEL` of these cases fall inside."""

    def errors(growth: float) -> np.ndarray:
        return np.array(
            [
                position(case) - extrapolate(Evidence(**case["evidence"]), growth)[0]
                for case in known
            ]
        )

    growth = min(SHARES, key=lambda share: float(np.abs(errors(share)).mean()))
    found = np.abs(errors(growth))
    share, least = estimation.SPREAD[:2]
    units = [
        extrapolate(Evidence(**case["evidence"]), growth, (share, least, 1.0))[1] for case in known
    ]
    ratios = np.sort(found / units)
    # As conformal prediction does: the rank that holds for a case that is not among these.
    rank = min(len(ratios), math.ceil((len(ratios) + 1) * estimation.LEVEL)) - 1
    return growth, (share, least, round(float(ratios[rank]), 2))


def position(case: Mapping[str, Any]) -> float:
    """The truth on the even scale."""
    higher = case["higher_is_better"]
    return to_scale(MetricRef(name=case["metric"], higher_is_better=higher), case["truth"])


def table(result: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    judged = {tuple(row["case"]): row for row in result["rows"]}
    without = result["rms_error_of_the_short_training"]
    lines = [
        "# Estimates against the truth",
        "",
        f"`{result['command']}`. {result['inside']} of {result['cases_judged']} truths fell inside "
        f"error bars of {result['level']:.0%}, by constants fitted without the cases of the same "
        "backbone and data; without the cases of the same task, "
        f"{result['inside_other_tasks']}. RMS error on the even scale (log-odds, or logarithms of "
        f"errors: 0.1 is 10 % of an error) {result['rms_error']:.2f}; with the score of the second "
        f"short training taken as the estimate, {without:.2f}. "
        f"Median half-width {result['median_width']:.2f}.",
        "",
        f"Fitted to all cases: growth {result['growth']}, spread "
        f"({', '.join(map(str, result['spread']))}).",
        "",
        "| backbone | data | task | images, steps | metric | short trainings | estimate | truth | "
        "inside | seconds: estimate, training |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in result["cases"]:
        row = judged[key_of(case)]
        metric = MetricRef(name=case["metric"], higher_is_better=case["higher_is_better"])
        middle = position(case) - row["error"]
        ends = sorted(estimation.from_scale(metric, middle + way * row["width"]) for way in (-1, 1))
        first, second = (
            estimation.from_scale(metric, case["evidence"][name]) for name in ("first", "second")
        )
        hit = "yes" if inside([row]) else "**no**"
        lines.append(
            f"| {case['backbone']} | {case['data']} | {case['task']} | {case['limit']}, "
            f"{case['steps']} | {case['metric']} | {first:.3g}, {second:.3g} | "
            f"{estimation.from_scale(metric, middle):.3g} ({ends[0]:.3g}–{ends[1]:.3g}) | "
            f"{case['truth']:.3g} | {hit} | {case['estimate_seconds']:.0f}, "
            f"{case['training_seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
