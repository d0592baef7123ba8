"""What adding a task costs: from cached features, against retraining the joint model.

CPU time of one thread, all kinds of training taking turns, so that a busy machine slows all alike.
Each has a process of its own, as it has where people train: beside a joint training, whose memory
is in pieces then, a head takes longer. Images are in memory for all of them: decoding, which the
cached way does once an image and the others once a visit where images are not cached either, is
left out. Nothing depends on weights.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, cast

import click
import torch
from torch import Tensor

from benchmarks.latency import spread
from benchmarks.peers.coupled import MTINet
from benchmarks.peers.host import peers_host
from benchmarks.peers.training import CoupledTraining
from benchmarks.report import machine, save
from medusa_core.api import Dataset, Sample, TargetInfo
from medusa_core.backbones.timm_backbone import Backbone, build, describe
from medusa_core.data.geometry import IDENTITY, Size, fixed_views
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.datasets import DataRef, check_target, load_dataset
from medusa_core.engine.feature_cache import CachedTask, cache_images, cache_tasks
from medusa_core.engine.head_training import HeadTraining
from medusa_core.engine.joint_training import JointTask, JointTraining, as_input
from medusa_core.engine.outcome import TrainSettings
from medusa_core.engine.training import Training
from medusa_core.heads.base import Head
from medusa_core.model.assembly import complete_head_ref, make_head, make_task
from medusa_core.model.inference import keep_memory
from medusa_core.plugin_host.host import Host
from medusa_core.progress import SilentProgress
from medusa_core.workflows.training.head_plan import DEFAULT_STEPS

TASKS = ("semseg", "depth", "normals", "edges", "saliency", "human_parts")
"""Of the joint model; the last ones are added, one at a time."""
ADDED = ("depth", "normals", "semseg")
JOINT = ("joint", "plain heads", "MTI-Net")
WAYS = ("cached", "uncached")
KINDS = (*JOINT, "cache pass", *(f"{task}, {way}" for task in ADDED for way in WAYS))
BATCH, VIEWS, IN_MEMORY = 8, 4, 16
PASSED = 4
"""How often a cache pass sees these images: it prepares the network once, which of 795 images is
nothing, of 64 a fiftieth and of 16 a sixteenth."""
WARM_UP = 3
A_WHILE = 1.0
"""Seconds of steps that are not timed, and of those that are, in a turn: a training is a stream."""
IMAGES, EPOCHS = 795, 100
"""The typical schedule: NYUD-v2, and the epochs of the recipe its multi-task papers share."""


class InMemory:
    """Some samples of a data set, loaded once."""

    def __init__(self, whole: Dataset, number: int) -> None:
        self.name, self.split, self.digest = whole.name, whole.split, f"{whole.digest}-{number}"
        self.ids, self.targets = whole.ids[:number], dict(whole.targets)
        self.samples = [whole.load(index) for index in range(number)]

    targets: dict[str, TargetInfo]

    def __len__(self) -> int:
        return len(self.samples)

    def size(self, index: int) -> Size:
        """(H, W) of an image."""
        height, width = self.samples[index].image.shape[:2]
        return height, width

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """A sample with all its targets."""
        return self.samples[index]


@dataclass(frozen=True)
class Uncached:
    """A `CachedTask` of which the features are computed at every visit."""

    cached: CachedTask
    backbone: Backbone
    images: Any

    @property
    def source(self) -> Source:
        """What rows are made of."""
        return self.cached.source

    def batch(self, rows: Sequence[int]) -> tuple[list[Tensor], Tensor, Tensor]:
        """As that of a cached task."""
        _, target, valid = self.cached.batch(rows)
        views = len(self.source.views)
        with torch.no_grad():
            levels = self.backbone(
                as_input(self.backbone, [self.images[row // views] for row in rows])
            )
        return levels, target, valid


@click.command()
@click.option("--backbone", default="hrnet_w18_small_v2", show_default=True)
@click.option("--size", type=(int, int), default=(256, 320), show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.option("--quick", is_flag=True, help="A tiny backbone, one round; nothing is recorded.")
def main(backbone: str, size: Size, rounds: int, quick: bool) -> None:
    """Measure, and write results/add_task_time.{json,md}."""
    if quick:
        backbone, size, rounds = "test_resnet", (64, 96), 1
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(backbone, size, rounds, Path(folder))
    result = {
        "command": f"python -m benchmarks.add_task_time --rounds {rounds}",
        "backbone": backbone,
        "size": list(size),
        "batch": BATCH,
        "views": VIEWS,
        "rounds": rounds,
        "tasks": list(TASKS),
        "images": IMAGES,
        "epochs": EPOCHS,
        **machine(),
        "seconds_an_image": seconds,
        "rows": [row(task, seconds) for task in ADDED],
    }
    print(table(result))
    if not quick:
        save("add_task_time", result, table(result))


def measure(name: str, size: Size, rounds: int, folder: Path) -> dict[str, list[float]]:
    """CPU seconds an image (visit, or row of the cache), in every round."""
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    for number, kind in enumerate(KINDS):
        workers[kind], theirs = context.Pipe()
        process = context.Process(
            target=serve, args=(theirs, kind, name, size, folder / str(number)), daemon=True
        )
        process.start()
        theirs.close()
    seconds, rows = timed(workers, rounds), PASSED * IN_MEMORY * VIEWS
    return {
        kind: [second / (rows if kind == "cache pass" else BATCH) for second in found]
        for kind, found in seconds.items()
    }


def serve(connection: Connection, kind: str, name: str, size: Size, folder: Path) -> None:
    """One kind of training, in a process: what a step takes, whenever it is asked."""
    folder.mkdir()
    os.environ["MEDUSA_CACHE"] = str(folder)
    torch.set_num_threads(1)
    keep_memory()
    torch.manual_seed(0)
    run = make(kind, name, size, folder)
    while True:
        connection.send(None)  # ready
        try:
            connection.recv()
        except EOFError:
            return
        for_a_while(run)
        connection.send(for_a_while(run))


def for_a_while(run: Callable[[], object]) -> float:
    """Steps for a second, one at least: CPU seconds of one."""
    started, spent, steps = time.process_time(), 0.0, 0
    while spent < A_WHILE:
        run()
        spent, steps = time.process_time() - started, steps + 1
    return spent / steps


def make(kind: str, name: str, size: Size, folder: Path) -> Callable[[], object]:
    """A step of one of `KINDS`."""
    host = peers_host()
    data = InMemory(
        load_dataset(host, DataRef("rooms", f"{size[0]}x{size[1]}"), "train"), IN_MEMORY
    )
    bindings = {task: bind(host, data, task) for task in TASKS}
    backbone = build(describe(name))
    if kind in JOINT:
        return stepping(joint_training(host, backbone, data, size, bindings, folder, kind))
    backbone = backbone.freeze()
    if kind == "cache pass":
        return partial(cache_pass, backbone, data, size, bindings["depth"], count(1))
    task, _, way = kind.partition(", ")
    source = Source(data, size, fixed_views(VIEWS))
    [rows] = cache_tasks(backbone, "0" * 64, source, [bindings[task]], SilentProgress())
    if way == "uncached":
        images, _ = cache_images(Source(data, size, (IDENTITY,)), [], SilentProgress())
        rows = cast("CachedTask", Uncached(rows, backbone, images))
    head = new_head(host, backbone, bindings[task])
    settings = TrainSettings(10**6, BATCH, 1e-2)
    parts = list(range(len(data) - 1)), [len(data) - 1]
    training = HeadTraining(bindings[task].task, head, rows, parts, settings, {}, folder / "work")
    return stepping(training)


def cache_pass(
    backbone: Backbone, data: InMemory, size: Size, binding: Binding, numbers: Iterator[int]
) -> None:
    """Features and targets of what the cache takes for another data set every time."""
    unseen = copy(data)
    unseen.digest = f"{data.digest}-{next(numbers)}"
    unseen.ids = [f"{own}-{again}" for again in range(PASSED) for own in data.ids]
    unseen.samples = data.samples * PASSED
    source = Source(unseen, size, fixed_views(VIEWS))
    cache_tasks(backbone, "0" * 64, source, [binding], SilentProgress())


def timed(workers: dict[str, Connection], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every kind in every round but the first ones, in which memory is taken."""
    found: dict[str, list[float]] = {kind: [] for kind in workers}
    for worker in workers.values():
        worker.recv()  # all are ready before any is timed
    for _ in range(WARM_UP + rounds):
        for kind, worker in workers.items():
            worker.send(None)
            found[kind].append(worker.recv())
            worker.recv()
    return {kind: seconds[WARM_UP:] for kind, seconds in found.items()}


def bind(host: Host, data: Dataset, name: str) -> Binding:
    """A task and the classes of the data."""
    spec = host.tasks.get(name)
    labels = check_target(data, spec)
    return Binding(make_task(host, spec, labels), labels)


def new_head(
    host: Host, backbone: Backbone, binding: Binding, architecture: str | None = None
) -> Head:
    """As `medusa add-task` makes it."""
    ref = complete_head_ref(host, binding.task.spec, architecture, {})
    return make_head(host, ref, backbone.info, binding.task.out_channels)


def joint_training(
    host: Host,
    backbone: Backbone,
    data: Dataset,
    size: Size,
    bindings: dict[str, Binding],
    folder: Path,
    kind: str,
) -> JointTraining:
    """As `medusa train-backbone` trains them; or HRNet's plain heads, or MTI-Net's decoder."""
    coupled = kind == "MTI-Net"
    architecture = "plain" if kind == "plain heads" else None
    source = Source(data, size, (IDENTITY,))
    images, rows = cache_images(source, list(bindings.values()), SilentProgress())
    tasks = {
        name: JointTask(
            binding, None if coupled else new_head(host, backbone, binding, architecture), *found
        )
        for (name, binding), found in zip(bindings.items(), rows, strict=True)
    }
    settings = TrainSettings(10**6, BATCH, 1e-3)
    parts = list(range(len(data) - 1)), [len(data) - 1]
    if not coupled:
        return JointTraining(backbone, tasks, images, parts, settings, {}, folder / kind)
    decoder = MTINet(backbone.info, {n: b.task.out_channels for n, b in bindings.items()})
    last = decoder.to(memory_format=torch.channels_last)
    work = folder / "coupled"
    return CoupledTraining(backbone, tasks, images, parts, settings, {}, work, decoder=last)


def stepping(training: Training) -> Callable[[], object]:
    """One step of a training."""
    training.module.train()
    return training._step


def row(task: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Ratios of one task, as medians over rounds and their quartiles."""

    def ratios(above: Callable[[int], float], below: Callable[[int], float]) -> dict[str, Any]:
        found = [above(i) / below(i) for i in range(len(seconds["joint"]))]
        return {"median": median(found), "quartiles": spread(found)}

    cached, uncached = seconds[f"{task}, cached"], seconds[f"{task}, uncached"]
    joint, one_pass = seconds["joint"], seconds["cache pass"]

    def schedule(visits: int, retrained: list[float]) -> dict[str, Any]:
        return ratios(
            lambda i: visits * retrained[i],
            lambda i: IMAGES * VIEWS * one_pass[i] + visits * cached[i],
        )

    return {
        "task": task,
        "typical": schedule(IMAGES * EPOCHS, joint),
        "typical_plain": schedule(IMAGES * EPOCHS, seconds["plain heads"]),
        "typical_mtinet": schedule(IMAGES * EPOCHS, seconds["MTI-Net"]),
        "default": schedule(DEFAULT_STEPS * BATCH, joint),
        "without_pass": ratios(lambda i: joint[i], lambda i: cached[i]),
        "epoch": ratios(lambda i: uncached[i], lambda i: cached[i]),
    }


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    seconds = {name: median(found) * 1e3 for name, found in result["seconds_an_image"].items()}
    visits = result["images"] * result["epochs"]
    lines = [
        "# What adding a task costs",
        "",
        f"`{result['command']}`. Backbone `{result['backbone']}` at "
        f"{result['size'][0]}×{result['size'][1]}, batch {result['batch']}, one thread, medians "
        f"and quartiles over {result['rounds']} rounds in which all took turns, each in a process "
        "of its own, each after a second of its own steps. The joint model "
        f"has {len(result['tasks'])} tasks. Milliseconds of CPU an image: joint step "
        f"{seconds['joint']:.0f}, of plain heads {seconds['plain heads']:.0f}, of MTI-Net's "
        f"{seconds['MTI-Net']:.0f}, cache pass "
        f"{seconds['cache pass']:.0f} a view.",
        "",
        f"Typical schedule: {result['images']} images, {result['epochs']} epochs, so {visits:,} "
        f"image visits; the cache pass of {result['views']} views is part of the cost. Default "
        f"schedule of `add-task`: {DEFAULT_STEPS} steps.",
        "",
        "| added task | head step, ms | joint retraining / adding, typical | the same with plain "
        "heads | MTI-Net's retraining / adding, typical | joint, default schedule | joint, the "
        "cache being there | epoch without cache / with |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in result["rows"]:
        cells = [
            f"{found[key]['median']:.1f} ({found[key]['quartiles'][0]:.1f}"
            f"–{found[key]['quartiles'][1]:.1f})"
            for key in (
                "typical",
                "typical_plain",
                "typical_mtinet",
                "default",
                "without_pass",
                "epoch",
            )
        ]
        step = seconds[f"{found['task']}, cached"]
        lines.append(f"| {found['task']} | {step:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
