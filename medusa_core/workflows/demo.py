"""`medusa demo`: the main job in a minute or two, on synthetic rooms, without a download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from medusa_core.data.geometry import Size
from medusa_core.engine.binding import Binding
from medusa_core.engine.datasets import DataRef, load_dataset, shorten
from medusa_core.engine.feature_cache import as_target
from medusa_core.engine.report import beside_target
from medusa_core.model.opening import open_model
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout
from medusa_core.store.records import sha256
from medusa_core.viz import panel
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.bundled import model_card
from medusa_core.workflows.evaluate import evaluate
from medusa_core.workflows.heads import remove_task
from medusa_core.workflows.init import init

TRAIN_IMAGES, VAL_IMAGES, PICTURES = 400, 100, 3
STEPS = 220
CELL: Size = (192, 256)


def demo(model: str | Path = "medusa-demo", progress: Progress | None = None) -> dict[str, Any]:
    """Add two tasks the bundled backbone never saw, score them, remove one, prove the rest unmoved.

    Args:
        model: folder to make; it must not exist or be empty.
        progress: told what is happening.

    Returns:
        Scores of each task's head beside `linear` and `constant`, digests before and after the
        removal, and the pictures made.
    """
    host, progress = default_host(), progress or SilentProgress()
    started = time.perf_counter()
    card, model = model_card(), Path(model)
    init(model, progress=progress)
    added = list(card["demo_tasks"])
    for task in added:
        _add(model, task, task, None, host, progress)
        for head in ("linear", "constant"):
            _add(model, task, f"{task}_{head}", head, host, progress)
    scores = evaluate(model, limit=VAL_IMAGES, host=host, progress=progress)["heads"]
    baselines = [f"{task}_{head}" for task in added for head in ("linear", "constant")]
    remove_task(baselines, model=model, host=host)
    before = digests(model)
    _draw(model, host, added)
    remove_task(added[-1], model=model, host=host)
    after = digests(model)
    reports = [Layout(model).report(name) for name in ("demo", *added)]
    unchanged = {name: before[name] == after[name] for name in after}
    return {
        "model": str(model),
        "backbone": {"trained_on": card["trained_on"], "never_saw": card["held_out"]},
        "scores": {
            task: {
                "primary": scores[task]["primary"],
                **{
                    kind: scores[name]["metrics"]
                    for kind, name in (
                        ("medusa", task),
                        ("linear", f"{task}_linear"),
                        ("constant", f"{task}_constant"),
                    )
                },
            }
            for task in added
        },
        "removed": added[-1],
        "digests_before": before,
        "digests_after": after,
        "unchanged": all(unchanged.values()),
        "ok": all(unchanged.values()),
        "pictures": [str(path) for path in reports if path.exists()],
        "seconds": round(time.perf_counter() - started, 1),
    }


def digests(model: Path) -> dict[str, str]:
    """sha256 of the weights on the disk: of the backbone and of every head."""
    with ModelFolder.open(model) as folder:
        contents = {"backbone": folder.read_backbone_bytes()}
        contents |= {name: folder.read_head_bytes(name) for name in folder.heads}
    return {name: sha256(data) for name, data in contents.items()}


def _add(
    model: Path, task: str, name: str, head: str | None, host: Host, progress: Progress
) -> None:
    add_task(
        task,
        model=model,
        name=name,
        data=["rooms"],
        host=host,
        progress=progress,
        head=head,
        steps=STEPS,
        batch=16,
        views=2,
        limit=TRAIN_IMAGES,
        lr=3e-3 if head is None else 1e-2,  # a linear map learns faster
    )


def _draw(model: Path, host: Host, tasks: list[str]) -> None:
    """One contact sheet: scenes nobody trained on, and what each head makes of them."""
    opened = open_model(model, tasks, host=host)
    dataset = shorten(load_dataset(host, DataRef("rooms"), "val"), PICTURES)
    rows: list[list[tuple[np.ndarray, str]]] = []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        row = [(sample.image, sample.id)]
        for name, result in opened.predict(sample.image, tasks).items():
            task = opened.tasks[name]
            binding = Binding(task, task.labels)
            target = binding.target(sample)
            if target is None:
                row.append((task.render(sample.image, result.value), name))
                continue
            valid = torch.from_numpy(binding.valid(target)[None])
            pictures = beside_target(
                task, sample.image, result.value, as_target(target[None]), valid
            )
            row += zip(pictures, (name, f"{name}: target"), strict=True)
        rows.append(row)
    Image.fromarray(panel(rows, cell=CELL)).save(Layout(model).report("demo"))
