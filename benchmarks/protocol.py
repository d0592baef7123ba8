"""What the comparisons are made of: trainings that are done once and kept, and their scores.

Everything lies under one folder, by data set and seed, and is found again by the next run: an
interrupted benchmark goes on where it was, and comparisons share their networks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch

from benchmarks.peers.coupled import CoupledDecoder
from benchmarks.peers.host import peers_host
from benchmarks.peers.training import CoupledModel, score_coupled, train_coupled
from medusa_core.api import Dataset, MetricRef
from medusa_core.cli._progress import LineProgress
from medusa_core.engine.datasets import DataRef, load_dataset, shorten
from medusa_core.engine.scores import Scores
from medusa_core.engine.training import TrainSettings
from medusa_core.model.assembly import complete_head_ref
from medusa_core.model.medusa_model import MedusaModel, open_model, restore_backbone
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress
from medusa_core.store.folder import ModelFolder
from medusa_core.store.manifest import HeadManifest
from medusa_core.workflows import preparation
from medusa_core.workflows.add_task import DEFAULT_LR, TrainOptions, add_task
from medusa_core.workflows.evaluate import score
from medusa_core.workflows.init import init
from medusa_core.workflows.train_backbone import train_backbone

JUDGED_BY = {"edges": "odsf"}
"""Metrics to compare by where that is not the primary one, which has to be quick."""


@dataclass(frozen=True)
class Setting:
    """One data set with one backbone, and how long and fast things are trained on it.

    weights: file of the backbone's first weights; None: random ones.
    batch: images a step, everywhere.
    source_steps, head_steps: of the source network, and of a decoder on it. A reference network
        gets the sum, so that as many images are visited for every task.
    limit: use at most so many images; None: all.
    """

    name: str
    data: str
    backbone: str
    weights: Path | None
    batch: int
    source_steps: int
    head_steps: int
    source_lr: float = 1e-3
    head_lr: float = DEFAULT_LR
    limit: int | None = None


def rooms(quick: bool) -> Setting:
    """Synthetic rooms, everything from scratch."""
    whole = Setting("rooms", "rooms", "hrnet_w18_small", None, 16, 2400, 1200, source_lr=2e-3)
    if not quick:
        return whole
    return replace(whole, name="rooms-quick", source_steps=20, head_steps=10, limit=64)


def photographs(quick: bool) -> Setting | None:
    """NYU photographs on ImageNet weights; None without `MEDUSA_REAL_DATA`."""
    data = os.environ.get("MEDUSA_REAL_DATA")
    if not data:
        return None
    weights = Path(data) / "weights" / "mobilenetv2_100.features.safetensors"
    whole = Setting("nyu", f"folder:{data}/nyuv2", "mobilenetv2_100", weights, 8, 400, 400)
    return (
        replace(whole, name="nyu-quick", source_steps=4, head_steps=4, limit=24) if quick else whole
    )


@dataclass(frozen=True)
class Workbench:
    """Trains what is asked for, or finds it under `folder`."""

    setting: Setting
    folder: Path

    @cached_property
    def host(self) -> Host:
        """The installed plugins and the peers."""
        return peers_host()

    @cached_property
    def progress(self) -> Progress:
        """Lines, now and then."""
        return LineProgress(interval=60)

    def start(self, seed: int) -> Path:
        """A model folder with the first weights and no heads."""
        return self._made(seed, "start", lambda path: self._init(path, seed))

    def network(self, seed: int, tasks: Sequence[str], head: str, steps: int) -> Path:
        """A model folder whose backbone and heads were trained jointly on some tasks."""

        def make(path: Path) -> None:
            if not path.exists():
                self._init(path, seed)
            options = self._options(head, steps, self.setting.source_lr, seed)
            train_backbone(
                path,
                tasks=tasks,
                data=[self.setting.data],
                options=options,
                host=self.host,
                progress=self.progress,
            )

        return self._made(seed, f"{head}-{'+'.join(tasks)}-{steps}", make)

    def head(
        self,
        model: Path,
        seed: int,
        task: str,
        method: str,
        steps: int,
        settings: Mapping[str, Any] | None = None,
    ) -> str:
        """Name of a head of some architecture, trained on the frozen backbone of a folder."""
        name = f"{task}_{method}"
        if settings:
            text = json.dumps(dict(settings), sort_keys=True)
            name += f"_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        options = self._options(method, steps, self.setting.head_lr, seed, settings)
        ref = complete_head_ref(self.host, self.host.tasks.get(task), method, settings or {})
        with ModelFolder.open(model) as folder:
            found = folder.heads.get(name)
        if found is not None and found.head == ref:
            asked = {"steps": steps, "lr": options.lr, "batch": options.batch, "seed": seed}
            if asked.items() <= found.provenance.items():
                return name
        add_task(
            task,
            model=model,
            name=name,
            replace=found is not None,  # with other settings, from an earlier version
            data=[self.setting.data],
            options=options,
            host=self.host,
            progress=self.progress,
        )
        return name

    def coupled(
        self,
        seed: int,
        start: Path,
        decoder: type[CoupledDecoder],
        tasks: Sequence[str],
        steps: int,
        frozen: bool,
    ) -> tuple[CoupledModel, Path]:
        """A coupled network, and its folder; `frozen` trains nothing but the decoder."""
        with ModelFolder.open(start) as folder:
            backbone = restore_backbone(folder.manifest.backbone, folder.read_backbone())
        dataset = self.dataset("train")
        kind = f"{decoder.__name__}{'-frozen' if frozen else ''}-{'+'.join(tasks)}-{steps}"
        path = self._seed(seed) / kind
        model = train_coupled(
            decoder,
            backbone,
            tasks,
            dataset,
            size=preparation.training_size(dataset, None, self.setting.batch),
            settings=TrainSettings(
                steps,
                self.setting.batch,
                self.setting.head_lr if frozen else self.setting.source_lr,
                seed,
            ),
            frozen=frozen,
            folder=path,
            host=self.host,
            progress=self.progress,
        )
        return model, path

    def dataset(self, split: str) -> Dataset:
        """One split."""
        whole = load_dataset(self.host, DataRef.parse(self.setting.data), split)
        return shorten(whole, self.setting.limit)

    def judged_by(self, task: str) -> MetricRef:
        """The metric a task is compared by."""
        spec = self.host.tasks.get(task)
        name = JUDGED_BY.get(task, spec.primary_metric.name)
        return next(ref for ref in spec.metrics if ref.name == name)

    def manifests(self, model: Path, heads: Sequence[str]) -> dict[str, HeadManifest]:
        """Records of heads."""
        with ModelFolder.open(model) as folder:
            return {name: folder.heads[name] for name in heads}

    def scores(self, model: Path, heads: Sequence[str]) -> dict[str, Scores]:
        """Statistics of heads on *val*, image by image."""
        files = {
            name: model.parent / f"{model.name}.scores" / f"{name}-{manifest.sha256[:16]}"
            for name, manifest in self.manifests(model, heads).items()
        }
        missing = [name for name, path in files.items() if not path.exists()]
        if missing:
            opened = open_model(model, missing, "cpu", self.host)
            for name, found in self._score(opened, missing).items():
                save_scores(found, files[name])
        opened = open_model(model, heads, "cpu", self.host)
        return {
            name: read_scores(Scores(opened.tasks[name].new_metrics()), path)
            for name, path in files.items()
        }

    def coupled_scores(self, model: CoupledModel, path: Path) -> dict[str, Scores]:
        """Statistics of a coupled network on *val*, image by image."""
        files = {name: path / "scores" / name for name in model.tasks}
        if not all(file.exists() for file in files.values()):
            for name, found in score_coupled(model, self.dataset("val"), self.progress).items():
                save_scores(found, files[name])
        return {
            name: read_scores(Scores(model.tasks[name].new_metrics()), file)
            for name, file in files.items()
        }

    def _score(self, model: MedusaModel, heads: Sequence[str]) -> Mapping[str, Scores]:
        ref = DataRef.parse(self.setting.data)
        found, _, _ = score(model, heads, [ref], "val", None, self.setting.limit, self.progress)
        return {name: result.scores for name, result in found.items()}

    def _options(
        self,
        head: str,
        steps: int,
        lr: float,
        seed: int,
        settings: Mapping[str, Any] | None = None,
    ) -> TrainOptions:
        return TrainOptions(
            head=head,
            settings=settings,
            steps=steps,
            batch=self.setting.batch,
            lr=lr,
            seed=seed,
            limit=self.setting.limit,
            resume=True,
        )

    def _seed(self, seed: int) -> Path:
        return self.folder / self.setting.name / f"seed-{seed}"

    def _init(self, path: Path, seed: int) -> None:
        init(
            path,
            backbone=self.setting.backbone,
            weights=self.setting.weights,
            from_scratch=self.setting.weights is None,
            seed=seed,
        )

    def _made(self, seed: int, name: str, make: Callable[[Path], None]) -> Path:
        """A folder that is either whole or not there."""
        path = self._seed(seed) / name
        if not path.exists():
            unfinished = path.with_name(f"{name}.unfinished")
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            make(unfinished)
            os.replace(unfinished, path)
        return path


def save_scores(scores: Scores, path: Path) -> None:
    """Write the statistics of every image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {str(i): rows for i, rows in enumerate(scores.statistics())}
    path.write_bytes(safetensors.torch.save(tensors))


def read_scores(empty: Scores, path: Path) -> Scores:
    """Statistics that `save_scores` wrote, of the same metrics."""
    tensors = safetensors.torch.load(path.read_bytes())
    empty.rows = [[tensors[str(i)]] for i in range(len(empty.metrics))]
    return empty


def sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
