"""Boundary scores on photographs: a Sobel detector, an edges head, and what people agree on.

The truth is every boundary that at least one person drew. Needs `MEDUSA_REAL_DATA`: a folder with
the data set bsds500 in the `folder` layout, whose edges are 255 times the mean over annotators with
threshold 1, and `weights/mobilenetv2_100.features.safetensors`. A head that exists is kept.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from benchmarks.report import machine, save
from medusa_core.api import Dataset, Metric, Sample
from medusa_core.cli._progress import LineProgress
from medusa_core.engine.datasets import DataRef, load_dataset, shorten
from medusa_core.engine.scores import Scores
from medusa_core.metrics import BoundaryF
from medusa_core.model.opening import open_model
from medusa_core.plugin_host import default_host
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.init import init
from medusa_core.workflows.training.head_plan import DEFAULT_STEPS

Detector = Callable[[Sample], np.ndarray]
"""`(H, W) float32` probabilities in `[0, 1]` of a boundary."""
MAJORITY = 128


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("edges-model"))
@click.option("--steps", type=int, default=DEFAULT_STEPS, show_default=True)
@click.option("--quick", is_flag=True, help="A few steps on a few images; nothing is recorded.")
def main(out: Path, steps: int, quick: bool) -> None:
    """Train the head, score all detectors, and write results/edges.{json,md}."""
    torch.set_num_threads(1)  # CPU time is steadiest so
    data = Path(os.environ["MEDUSA_REAL_DATA"])
    folder = data / "bsds500"
    weights = data / "weights" / "mobilenetv2_100.features.safetensors"
    options = {"steps": 4, "limit": 12} if quick else {"steps": steps, "resume": True}
    training = train(out, folder, weights, options)
    dataset = load_dataset(default_host(), DataRef("folder", str(folder)), "val")
    dataset = shorten(dataset, 3 if quick else None)
    detectors = {
        "Sobel gradient magnitude": sobel,
        "edges head on MobileNetV2": head_of(out),
        "pixels that half of the people drew": lambda sample: majority(sample, folder),
    }
    rows = [measure(name, detector, dataset) for name, detector in detectors.items()]
    result = {
        "command": f"python -m benchmarks.edges --steps {steps}",
        "images": len(dataset),
        "max_distance": BoundaryF().max_distance,
        "training": training,
        "threads": torch.get_num_threads(),
        **machine("scipy"),
        "rows": rows,
    }
    print(table(result))
    if not quick:
        save("edges", result, table(result))


def train(model: Path, data: Path, weights: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """An edges head with default settings; returns how it was trained."""
    if not model.exists():
        init(model, backbone="mobilenetv2_100", weights=weights)
    with ModelFolder.open(model) as folder:
        done = "edges" in folder.heads
    if not done:
        sources = [f"edges=folder:{data}"]
        add_task("edges", model=model, data=sources, progress=LineProgress(30), **options)
    with ModelFolder.open(model) as folder:
        head = folder.heads["edges"]
        kept = ("steps", "batch", "lr", "seed", "images", "cpu_seconds")
        return {
            "head": head.head.model_dump(mode="json"),
            "size": list(head.size),
            "params": head.params,
            "share_of_backbone": head.gmacs / folder.manifest.backbone.gmacs,
            **{key: head.provenance[key] for key in kept},
        }


def sobel(sample: Sample) -> np.ndarray:
    """Length of the gradient of the smoothed grey image, divided by the largest of the image."""
    grey = sample.image.astype(np.float64) @ [0.299, 0.587, 0.114]
    smooth = _along(_along(grey, SMOOTHING, 0), SMOOTHING, 1)
    across = _along(_along(smooth, (-1, 0, 1), 1), (1, 2, 1), 0)
    down = _along(_along(smooth, (-1, 0, 1), 0), (1, 2, 1), 1)
    length = np.hypot(across, down)
    return (length / max(length.max(), 1e-9)).astype(np.float32)


SMOOTHING = tuple(np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2))
"""A Gaussian of 2 pixels, not normalised: the result is scaled anyway."""


def _along(values: np.ndarray, weights: tuple[float, ...], axis: int) -> np.ndarray:
    """Correlation along one axis, borders repeated."""
    reach = len(weights) // 2
    margins = [(reach, reach) if each == axis else (0, 0) for each in range(2)]
    padded = np.pad(values, margins, mode="edge")
    length = values.shape[axis]
    shifted = (np.take(padded, range(start, start + length), axis) for start in range(len(weights)))
    return np.sum([w * s for w, s in zip(weights, shifted, strict=True)], axis=0)


def head_of(path: Path) -> Detector:
    """The head `edges` of a model folder, at the size it was trained for."""
    model = open_model(path, ["edges"])
    return lambda sample: model.predict(sample.image, tasks=["edges"])["edges"].value


def majority(sample: Sample, data: Path) -> np.ndarray:
    """Pixels that at least half of the people drew; the file holds 255 times their mean."""
    with Image.open(data / "edges" / f"{sample.id}.png") as file:
        return (np.asarray(file) >= MAJORITY).astype(np.float32)


def measure(name: str, detector: Detector, dataset: Dataset) -> dict[str, Any]:
    """Boundary scores of a detector, and the CPU seconds an image of scoring alone."""
    metric: Metric = BoundaryF()
    scores, seconds = Scores([metric]), []
    for index in range(len(dataset)):
        sample = dataset.load(index, ["edges"])
        target = sample.targets["edges"].astype(np.int64)
        decoded = detector(sample)
        started = time.process_time()
        maps = [torch.from_numpy(np.array(each)) for each in (decoded, target, target != 255)]
        scores.add(*(each[None] for each in maps))
        seconds.append(time.process_time() - started)
    row = {
        "detector": name,
        **scores.figures(),
        "seconds_per_image": sum(seconds) / len(seconds),
        "slowest_image": max(seconds),
    }
    print(json.dumps(row), flush=True)
    return row


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    training = result["training"]
    lines = [
        "# Boundaries of photographs",
        "",
        f"`{result['command']}`: {result['images']} images of BSDS500 that no training saw. True "
        "is what at least one person drew, thinned; the tolerance is "
        f"{result['max_distance']} of the diagonal. Where five people drew one contour a pixel "
        "apart, the truth has it more than once, and no detector finds it all. The benchmark "
        "proper matches every person's drawing alone: published figures are not comparable.",
        "",
        "| detector | ODS F ↑ | OIS F ↑ | AP ↑ | CPU s an image to score (slowest) |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['detector']} | {row['odsf']:.3f} | {row['oisf']:.3f} | {row['ap']:.3f} | "
        f"{row['seconds_per_image']:.2f} ({row['slowest_image']:.2f}) |"
        for row in result["rows"]
    ]
    versions_ = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    lines += [
        "",
        "Half of the people seldom draw the very same pixel: the last row is right wherever it "
        "predicts anything, and misses the rest.",
        "",
        f"Head: `{training['head']['name']}`, default settings, {training['steps']} steps of "
        f"{training['batch']} images (of {training['images']}), seed {training['seed']}, "
        f"{training['cpu_seconds']:.0f} CPU s, {training['share_of_backbone']:.0%} of the GMACs of "
        f"the backbone. One thread. {versions_}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
