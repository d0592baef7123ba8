"""What `--patience` saves and costs, beside a schedule that is as short from the start.

Every task is trained to the end with 20 evaluations; where each patience would have stopped is read
off that curve (weights and curve do not depend on it). Then it is trained again in as many steps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.report import machine, save
from medusa_core.cli._progress import LineProgress
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.init import init

TASKS = ("normals", "saliency", "depth")
PATIENCE = (2, 3, 5)
NEVER = 20


@click.command()
@click.option("--quick", is_flag=True, help="One short training; nothing is recorded.")
def main(quick: bool) -> None:
    """Measure, and write results/early_stopping.{json,md}."""
    torch.set_num_threads(1)
    tasks, steps, limit = (TASKS[:1], 40, 40) if quick else (TASKS, 400, 300)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        init(model)
        rows = [row for task in tasks for row in measure(model, task, steps, limit)]
    result = {
        "command": "python -m benchmarks.early_stopping",
        "steps": steps,
        "images": limit,
        **machine(),
        "rows": rows,
    }
    print(table(result))
    if not quick:
        save("early_stopping", result, table(result))


def measure(model: Path, task: str, steps: int, limit: int) -> list[dict[str, Any]]:
    """A row a patience."""

    def train(steps: int) -> tuple[dict[str, Any], list[dict[str, float]]]:
        done = add_task(
            task,
            model=model,
            data=["rooms"],
            replace=True,
            steps=steps,
            limit=limit,
            views=2,
            patience=NEVER,
            progress=LineProgress(),
        )
        with ModelFolder.open(model) as folder:
            return done["heads"][task], folder.heads[task].provenance["curve"]

    head, curve = train(steps)
    metric = head["primary"]
    higher = {"mean_angle": False, "rmse": False}.get(metric, True)
    rows = []
    for patience in PATIENCE:
        at, best = stopped(curve, metric, higher, patience)
        shorter = train(int(at))[0]["metrics"][metric] if at < steps else None
        rows.append(
            {
                "task": task,
                "metric": metric,
                "patience": patience,
                "to_the_end": head["metrics"][metric],
                "stopped_at": at,
                "stopped": best,
                "as_short_a_schedule": shorter,
            }
        )
    return rows


def stopped(
    curve: Sequence[dict[str, float]], metric: str, higher: bool, patience: int
) -> tuple[float, float]:
    """The step at which a training would have stopped, and its best figure by then."""
    best = curve[0]
    for index, point in enumerate(curve):
        if point[metric] > best[metric] if higher else point[metric] < best[metric]:
            best = point
        if index - curve.index(best) >= patience:
            return point["step"], best[metric]
    return curve[-1]["step"], best[metric]


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Early stopping",
        "",
        f"`{result['command']}`. Bundled backbone, {result['images']} rooms, {result['steps']} "
        "steps, 20 evaluations, figures of the selection split.",
        "",
        "| task | metric | to the end | patience | stopped at | its score | "
        "a schedule of as many steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        shorter = row["as_short_a_schedule"]
        lines.append(
            f"| {row['task']} | {row['metric']} | {row['to_the_end']:.4g} | {row['patience']} | "
            f"{row['stopped_at']:.0f} | {row['stopped']:.4g} | "
            f"{'–' if shorter is None else f'{shorter:.4g}'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
