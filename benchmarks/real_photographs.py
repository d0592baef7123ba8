"""Seven heads from three data sets of photographs on one frozen ImageNet backbone.

Each `medusa` head is scored on *val* beside a `linear` head and a constant, trained the same way.
Needs `MEDUSA_REAL_DATA`: a folder with the data sets nyuv2, camvid and people in the `folder`
layout, and `weights/mobilenetv2_100.features.safetensors`. Heads that exist already are kept, so
an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.report import machine, save
from medusa_core.cli._progress import LineProgress
from medusa_core.engine.bootstrap import paired_difference
from medusa_core.engine.datasets import DataRef
from medusa_core.engine.evaluator import HeadScores
from medusa_core.model.opening import open_model
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.evaluate import score
from medusa_core.workflows.init import init

HEADS = {
    "depth": ("depth", "nyuv2"),
    "semseg": ("semseg", "nyuv2"),
    "normals": ("normals", "nyuv2"),
    "edges": ("edges", "nyuv2"),
    "semseg_streets": ("semseg", "camvid"),
    "human_parts": ("human_parts", "people"),
    "saliency": ("saliency", "people"),
}
ARCHITECTURES = ("medusa", "linear", "constant")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("real-photographs"))
@click.option("--steps", type=int, default=800, show_default=True)
@click.option("--quick", is_flag=True, help="A few steps on a few images; nothing is recorded.")
@click.option("--draws", type=int, default=2000, show_default=True, help="Bootstrap resamples.")
def main(out: Path, steps: int, quick: bool, draws: int) -> None:
    """Train, score, and write results/real_photographs.{json,md}."""
    torch.set_num_threads(1)  # CPU time is steadiest so
    data = Path(os.environ["MEDUSA_REAL_DATA"])
    limit = 24 if quick else None
    models = {kind: out / kind for kind in ARCHITECTURES}
    for kind, model in models.items():
        if not model.exists():
            weights = data / "weights" / "mobilenetv2_100.features.safetensors"
            init(model, backbone="mobilenetv2_100", weights=weights)
        _train(model, kind, data, 6 if quick else steps, limit)
    rows = []
    for name, (_, source) in HEADS.items():
        scores = {kind: _score(model, name, data / source, limit) for kind, model in models.items()}
        rows.append(_row(name, source, models, scores, 50 if quick else draws))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "command": f"python -m benchmarks.real_photographs --steps {steps}",
        "steps": steps,
        "seed": 0,
        "threads": torch.get_num_threads(),
        **machine(),
        "rows": rows,
    }
    print(table(result))
    if not quick:
        save("real_photographs", result, table(result))


def _train(model: Path, kind: str, data: Path, steps: int, limit: int | None) -> None:
    for name, (task, source) in HEADS.items():
        with ModelFolder.open(model) as folder:
            if name in folder.heads:
                continue
        add_task(
            task,
            model=model,
            name=name,
            data=[f"folder:{data / source}"],
            progress=LineProgress(interval=30),
            head=kind,
            steps=steps,
            limit=limit,
            resume=True,
        )


def _score(model: Path, name: str, data: Path, limit: int | None) -> tuple[HeadScores, float]:
    started = time.process_time()
    opened = open_model(model, [name])
    ref = DataRef("folder", str(data))
    results, _, _ = score(opened, [name], [ref], "val", None, limit, LineProgress(interval=60))
    return results[name], time.process_time() - started


def _row(
    name: str,
    source: str,
    models: dict[str, Path],
    scores: dict[str, tuple[HeadScores, float]],
    draws: int,
) -> dict[str, Any]:
    row: dict[str, Any] = {"head": name, "data": source, "kinds": {}}
    for kind, model in models.items():
        with ModelFolder.open(model) as folder:
            stored = folder.heads[name]
            share = stored.gmacs / folder.manifest.backbone.gmacs
        found = scores[kind][0].scores
        row["kinds"][kind] = {
            "metrics": found.figures(),
            "params": stored.params,
            "gmacs": stored.gmacs,
            "share_of_backbone": share,
            "cpu_seconds": stored.provenance["cpu_seconds"],
        }
        row["images"] = len(found)
    ref = next(
        r for r in open_model(models["medusa"], [name]).tasks[name].spec.metrics if r.primary
    )
    row |= {"metric": ref.name, "unit": ref.unit, "higher_is_better": ref.higher_is_better}
    medusa = scores["medusa"][0].scores
    for kind in ARCHITECTURES[1:]:
        difference, (low, high) = paired_difference(medusa, scores[kind][0].scores, ref.name, draws)
        row[f"minus_{kind}"] = {"difference": difference, "low": low, "high": high}
    return row


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Seven heads on one frozen MobileNetV2 (ImageNet), real photographs",
        "",
        f"`{result['command']}`, seed {result['seed']}, {result['steps']} steps of 8 images. "
        "Weights are kept by a tenth of *train*; scores are on *val*, intervals paired bootstraps "
        "over its images (95 %).",
        "",
        "| head | data (val images) | metric | medusa | linear | constant | "
        "medusa − linear [95 %] | medusa − constant [95 %] | GMACs of backbone | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        metric = row["metric"]
        arrow = "↑" if row["higher_is_better"] else "↓"
        unit = f" {row['unit']}" if row["unit"] else ""
        values = " | ".join(f"{row['kinds'][k]['metrics'][metric]:.3f}" for k in ARCHITECTURES)
        medusa = row["kinds"]["medusa"]
        differences = " | ".join(
            "{difference:+.3f} [{low:+.3f}, {high:+.3f}]".format(**row[f"minus_{kind}"])
            for kind in ARCHITECTURES[1:]
        )
        cpu = " / ".join(f"{row['kinds'][k]['cpu_seconds']:.0f}" for k in ARCHITECTURES)
        lines.append(
            f"| {row['head']} | {row['data']} ({row['images']}) | {metric}{unit} {arrow} | "
            f"{values} | "
            f"{differences} | "
            f"{medusa['share_of_backbone']:.0%} | {cpu} |"
        )
    versions_ = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    lines += [
        "",
        f"CPU seconds: medusa / linear / constant, training only, one thread. {versions_}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
