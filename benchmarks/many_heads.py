"""What a hundred heads cost somebody who wants one of them.

`python -m benchmarks.many_heads` writes `results/many_heads.json` and a table; `--quick` writes
nothing. Every figure comes from a process of its own, folders taking turns.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

BACKBONE, SIZE = "hrnet_w18_small_v2", (256, 320)
COUNTS = (1, 100)
ALL = "`medusa verify`, all heads"


def fill(model: Path, file: Path, heads: int) -> None:
    """Make a model with so many copies of a head."""
    from medusa_core.store import commit, head_file
    from medusa_core.store.commit import NewHead

    found = head_file.read(file)
    new = NewHead(found.manifest, found.weights, found.document)
    known = {f"head_{number}": new for number in range(heads)}
    commit.commit_heads(model, known, expect_fingerprint=found.manifest.fingerprint, replace=True)


def make_models(root: Path, backbone: str) -> dict[int, Path]:
    """A model folder for every count, of heads that were trained for one step."""
    from medusa_core.workflows.add_task import add_task
    from medusa_core.workflows.head_files import export_head
    from medusa_core.workflows.heads import remove_task
    from medusa_core.workflows.init import init

    models = {}
    for count in COUNTS:
        models[count] = root / f"with-{count}"
        init(models[count], backbone=backbone, from_scratch=True)
        data = [f"rooms:{SIZE[0]}x{SIZE[1]}"]
        add_task("depth", model=models[count], data=data, steps=1, limit=4, views=1)
        export_head("depth", root / f"{count}.medusa", model=models[count])
        remove_task("depth", model=models[count])
        fill(models[count], root / f"{count}.medusa", count)
    return models


def _list(model: Path) -> None:
    from medusa_core.cli import main

    assert main(["list", "-m", str(model)]) == 0


def _open(model: Path) -> None:
    import medusa_core

    assert list(medusa_core.open(model, tasks=["head_0"]).tasks) == ["head_0"]


def _predict(model: Path) -> None:
    import numpy as np

    import medusa_core

    image = np.zeros((*SIZE, 3), np.uint8)
    assert medusa_core.open(model, tasks=["head_0"]).predict(image)["head_0"].value.shape == SIZE


def _verify(model: Path) -> None:
    from medusa_core.workflows.verify import verify

    report = verify(model)
    assert report["ok"]
    assert set(report["probes"].values()) == {"equal"}


MEASURED: dict[str, Callable[[Path], None]] = {
    "`medusa list`": _list,
    "open with one head": _open,
    "open and predict with one head": _predict,
    ALL: _verify,
}


def measure(what: str, model: Path) -> dict[str, float]:
    """CPU seconds and peak memory of this process, imports included."""
    MEASURED[what](model)
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return {"seconds": time.process_time(), "mb": int(line.split()[1]) * 1024 / 1e6}


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--quick", is_flag=True, help="A tiny backbone, one round; nothing is recorded.")
@click.option("--measure", "measured", nargs=2, hidden=True)
def main(rounds: int, quick: bool, measured: tuple[str, str] | None) -> None:
    """Measure, and write results/many_heads.{json,md}."""
    if measured:
        print(json.dumps(measure(measured[0], Path(measured[1]))), file=sys.stderr)
        return
    from benchmarks.report import machine, save  # imports torch, which is not to be measured

    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder), "test_resnet" if quick else BACKBONE)
        figures = {what: compare(what, models, 1 if quick else rounds) for what in MEASURED}
    record = {
        "command": f"python -m benchmarks.many_heads --rounds {rounds}",
        "backbone": BACKBONE,
        "size": list(SIZE),
        **machine(),
        "figures": figures,
    }
    print(render(record))
    if not quick:
        save("many_heads", record, render(record))


def compare(what: str, models: dict[int, Path], rounds: int) -> dict[str, Any]:
    """Medians over rounds of both folders, and of their ratio."""
    from benchmarks.report import users_environment

    runs: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    for _ in range(rounds):
        for count, model in models.items():
            command = [sys.executable, "-m", "benchmarks.many_heads", "--measure", what, str(model)]
            done = subprocess.run(
                command, env=users_environment(), capture_output=True, text=True, check=True
            )
            runs[count].append(json.loads(done.stderr.splitlines()[-1]))
    found: dict[str, Any] = {}
    for key in ("seconds", "mb"):
        one, many = ([run[key] for run in runs[count]] for count in COUNTS)
        found[key] = {
            "one": statistics.median(one),
            "many": statistics.median(many),
            "ratio": statistics.median(b / a for a, b in zip(one, many, strict=True)),
        }
    return found


def render(record: dict[str, Any]) -> str:
    """The figures as Markdown."""
    from benchmarks.report import document

    lines = [
        "| | CPU seconds, 1 head | 100 heads | ratio | peak MB, 1 head | 100 heads | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, found in record["figures"].items():
        s, m = found["seconds"], found["mb"]
        lines.append(
            f"| {what} | {s['one']:.2f} | {s['many']:.2f} | {s['ratio']:.2f} | {m['one']:.0f} | "
            f"{m['many']:.0f} | {m['ratio']:.2f} |"
        )
    preface = (
        f"`{record['command']}`. `{record['backbone']}` with copies of a depth head of the default "
        "architecture; whole processes, imports included, medians. Whoever verifies a folder reads "
        f"all of it. {record['machine']}."
    )
    title = "One of a hundred heads"
    return document(title, preface, ["\n".join(lines) + "\n"], record)


if __name__ == "__main__":
    main()
