"""What the results of all comparisons have in common: where they go, and their tables."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medusa_core.workflows.training.finishing import versions

RESULTS = Path(__file__).parent / "results"
SINGLE_TASK = "single-task"
"""Networks of single tasks, as what others are relative to."""
FINER = "edges"
"""Its Medusa head answers at twice the resolution of the others: Δ is told without it, too."""


def machine(*packages: str) -> dict[str, Any]:
    """Versions (of these packages, too) and processor, for the record."""
    more = {name: version(name) for name in packages}
    return {"machine": device_name("cpu"), "versions": {**versions(), **more}}


def device_name(device: str) -> str:
    """What computes: the graphics card and its software, or the processor."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return ", ".join(filter(None, (processor_name(), kind)))


def processor_name() -> str:
    """What Linux calls the processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def users_environment() -> dict[str, str]:
    """That of a process which is timed from its start: users have modules that are compiled."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def save(name: str, record: Mapping[str, Any], table: str | None = None) -> None:
    """Write results/NAME.json and, where there is a table, NAME.md."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    if table is not None:
        (RESULTS / f"{name}.md").write_text(table)


def document(title: str, preface: str, sections: Iterable[str], record: Mapping[str, Any]) -> str:
    """A whole page of Markdown, with what is still to be trained and the versions below."""
    versions_ = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    last = f"Page made with {versions_}."
    missing = "; ".join(record.get("unanswered", ()))
    open_ = [f"Not trained yet: {missing}.", ""] if missing else []
    return "\n".join([f"# {title}", "", preface, "", *sections, *open_, last, ""])


def seeds_and_devices(result: Mapping[str, Any]) -> str:
    """Of the trainings of an answer."""
    seeds = ", ".join(map(str, result["seeds"]))
    return f"seeds: {seeds}; trained on {'; '.join(result['devices'])}"


def signed(value: float, interval: tuple[float, float]) -> str:
    """`+1.2 [+0.8, +1.6]`; no interval where there is none."""
    if any(map(math.isinf, interval)):
        return f"{value:+.2f}"
    return f"{value:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]"


def comparison_table(
    result: Mapping[str, Any], delta: str, reference: str = SINGLE_TASK
) -> list[str]:
    """Lines of a Markdown table: methods, their figures, Δ, and what Medusa is ahead by.

    Args:
        result: the answer to a question.
        delta: name of the gain.
        reference: what it is relative to. May be one of the methods.
    """
    metrics = result["metrics"]
    heads = [
        f"{task} {ref['name']}{' ' + ref['unit'] if ref['unit'] else ''} "
        f"{'↑' if ref['higher_is_better'] else '↓'}"
        for task, ref in metrics.items()
    ]
    finer = FINER if FINER in metrics and len(metrics) > 1 else None
    columns = ["method", *heads, f"{delta} %", *([f"without {finer}"] if finer else [])]
    columns += ["Medusa − it, over seeds", "over images", "GMACs", "params"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    zero = {"gains": [0.0], "gains_without": {finer: [0.0]}}
    rows = {reference: {"figures": result["reference"], **zero}, **result["methods"]}
    for method, row in rows.items():
        figures = [f"{statistics.fmean(row['figures'][task]):.3f}" for task in metrics]
        ahead = result["medusa_minus"].get(method)
        cells = [
            method,
            *figures,
            f"{statistics.fmean(row['gains']):+.2f}",
            *([f"{statistics.fmean(row['gains_without'][finer]):+.2f}"] if finer else []),
            signed(ahead["mean"], ahead["over_seeds"]) if ahead else "",
            signed(ahead["mean"], ahead["over_images"]) if ahead else "",
            f"{row['gmacs']:.3f}" if "gmacs" in row else "",
            f"{row['params'] / 1e6:.3f} M" if "params" in row else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
