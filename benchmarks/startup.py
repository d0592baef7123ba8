"""What `medusa` costs before it does anything, with many plugins installed.

`python -m benchmarks.startup` writes `results/startup.json` and a table; `--quick` writes nothing.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.report import document, machine, save, users_environment

LINES = ("--help", "plugins list", "tasks", "tasks --json", "add-task --help")
COMMANDS = tuple(tuple(line.split()) for line in LINES)
COUNTS = (0, 50)
HEAVY = ("torch", "timm", "torchvision", "numpy", "scipy", "PIL")

PLUGIN = """\
from medusa_core.api import MetricRef, OutputSpec, TargetSpec, TaskSpec, hookimpl


@hookimpl
def medusa_register_tasks():
    return [
        TaskSpec(
            name="{task}",
            title="Task {task}",
            implementation="{module}:Task",
            output=OutputSpec(channels=1),
            target=TargetSpec(source="image"),
            metrics=(MetricRef(name="mae", higher_is_better=False, primary=True),),
        )
    ]
"""
CODE = """
import json, sys
from medusa_core.cli import main
code = main(json.loads(sys.argv[1]))
heavy = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps([code, heavy]), file=sys.stderr)
"""


def install_plugins(folder: Path, count: int) -> list[str]:
    """Put distributions with a plugin of one task each into a folder; returns their names."""
    names = [f"medusa-bench-{index}" for index in range(count)]
    for index, name in enumerate(names):
        module = name.replace("-", "_")
        text = PLUGIN.format(task=f"bench_{index}", module=module)
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        requires = "Requires-Dist: medusa-heads>=0.1,<1"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        points = f"[medusa.plugins]\n{name} = {module}\n"
        (info / "entry_points.txt").write_text(points, encoding="utf-8")
    return names


def cpu_seconds(command: tuple[str, ...], folder: Path) -> tuple[float, list[str]]:
    """CPU time of a command line in a process of its own, and the heavy packages it imported."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(command), json.dumps(HEAVY)],
        env={**users_environment(), "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, heavy = json.loads(done.stderr.splitlines()[-1])
    if code != 0:
        raise RuntimeError(done.stderr)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, heavy


def measure(rounds: int) -> dict[str, Any]:
    """Medians over rounds, after one that fills the caches of bytecode and files."""
    result: dict[str, Any] = {}
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as name:
            install_plugins(Path(name), count)
            for command in COMMANDS:
                runs = [cpu_seconds(command, Path(name)) for _ in range(rounds + 1)][1:]
                times = [seconds for seconds, _ in runs]
                result[f"{' '.join(command)} | {count}"] = {
                    "median": round(statistics.median(times), 3),
                    "worst": round(max(times), 3),
                    "heavy": runs[0][1],
                }
    return result


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--quick", is_flag=True, help="One round; nothing is recorded.")
def main(rounds: int, quick: bool) -> None:
    """CPU time of commands that only look, without and with fifty plugins."""
    record = {"rounds": rounds, "commands": measure(1 if quick else rounds), **machine()}
    print(render(record))
    if not quick:
        save("startup", record, render(record))


def render(record: dict[str, Any]) -> str:
    """The times as Markdown."""
    head = ("command", "plugins", "CPU s, median", "worst", "heavy imports")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for key, row in record["commands"].items():
        command, count = key.split(" | ")
        heavy = ", ".join(row["heavy"]) or "none"
        lines.append(
            f"| `medusa {command}` | {count} | {row['median']:.2f} | {row['worst']:.2f} | {heavy} |"
        )
    preface = (
        f"`python -m benchmarks.startup --rounds {record['rounds']}`. Plugins on top of the "
        "project's own; each is a distribution with one task. User and system time of the whole "
        f"process. {record['machine']}."
    )
    return document("What starting costs", preface, ["\n".join(lines) + "\n"], record)


if __name__ == "__main__":
    main()
