"""How comparisons are run: trainings that are done once and kept, with their scores on *val*.

Everything lies under one folder, by data set and seed, and is found again by the next run: an
interrupted benchmark goes on where it was, and comparisons share their networks. The scores of a
training are a file of their own: where they are, the networks are not needed any more.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from benchmarks.gains import Run
from benchmarks.peers.coupled import CoupledDecoder, MTINet, PADNet
from benchmarks.peers.host import peers_host
from benchmarks.peers.training import score_coupled, train_coupled
from benchmarks.report import device_name
from benchmarks.trainings import Coupled, Decoder, Facts, Features, Network, Training
from medusa_core.api import Dataset, MetricRef, Task
from medusa_core.cli._progress import LineProgress
from medusa_core.data.geometry import fixed_views
from medusa_core.engine.binding import Binding
from medusa_core.engine.datasets import DataRef, check_target, load_dataset, shorten
from medusa_core.engine.feature_cache import Source, cache_tasks
from medusa_core.engine.scores import Scores
from medusa_core.engine.training import TrainSettings
from medusa_core.model.assembly import complete_head_ref, make_task
from medusa_core.model.medusa_model import open_model, restore_backbone
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout
from medusa_core.store.manifest import HeadManifest
from medusa_core.workflows import preparation
from medusa_core.workflows.add_task import DEFAULT_LR, DEFAULT_VIEWS, TrainOptions, add_task
from medusa_core.workflows.evaluate import score
from medusa_core.workflows.init import init
from medusa_core.workflows.train_backbone import train_backbone

JUDGED_BY = {"edges": "odsf"}
"""Metrics to compare by where that is not the primary one, which has to be quick."""

COUPLED: dict[str, type[CoupledDecoder]] = {"mtinet": MTINet, "padnet": PADNet}


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

    def as_json(self) -> dict[str, Any]:
        """For the record: no paths of this machine."""
        return {**vars(self), "data": self.name, "weights": None}


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
    device: str = "cpu"

    @cached_property
    def host(self) -> Host:
        """The installed plugins and the peers."""
        return peers_host()

    @cached_property
    def progress(self) -> Progress:
        """Lines, now and then."""
        return LineProgress(interval=60)

    def make(self, training: Training, scored: bool = True) -> None:
        """Train and, where wanted, score on *val* what has not been yet, and what it needs."""
        if isinstance(training, Features):
            self._cache(training)
        elif self._kept(training, scored) is not None:
            return
        elif isinstance(training, Coupled):
            self._make_coupled(training)
        else:
            heads = self._trained(training)
            found = self._score(training, list(heads)) if scored else None
            facts = _facts(heads, self.device)
            if isinstance(training, Decoder):
                facts = replace(facts, unmoved=self._unmoved(training.network))
            self._keep(training, facts, found)

    def scores(self, training: Training) -> Run:
        """Statistics on *val*, image by image, of every task of a training."""
        path = self._made(training, scored=True)
        with safetensors.safe_open(path, framework="pt") as file:
            tasks = json.loads(file.metadata()["tasks"])
            result = {}
            for name in tasks:
                metrics = self._task(name).new_metrics()
                result[name] = Scores(metrics)
                result[name].rows = [
                    [file.get_tensor(f"{name}.{number}")] for number in range(len(metrics))
                ]
        return result

    def facts(self, training: Training, scored: bool = True) -> Facts:
        """Costs and selection scores of a training."""
        with safetensors.safe_open(self._made(training, scored), framework="pt") as file:
            return Facts(**json.loads(file.metadata()["facts"]))

    def model(self, network: Network) -> Path:
        """The model folder of a network."""
        if not network.tasks:
            return self._whole(network, lambda path: self._init(path, network.seed))
        return self._whole(network, lambda path: self._train(path, network))

    def judged_by(self, task: str) -> MetricRef:
        """The metric a task is compared by."""
        spec = self.host.tasks.get(task)
        name = JUDGED_BY.get(task, spec.primary_metric.name)
        return next(ref for ref in spec.metrics if ref.name == name)

    # How each kind of training is done

    def _train(self, path: Path, network: Network) -> None:
        if not path.exists():
            self._init(path, network.seed)
        train_backbone(
            path,
            tasks=network.tasks,
            data=[self.setting.data],
            options=self._options(
                network.head, network.steps, self.setting.source_lr, network.seed
            ),
            host=self.host,
            progress=self.progress,
        )

    def _trained(self, training: Network | Decoder) -> dict[str, HeadManifest]:
        """Records of the heads of a training, by task."""
        if isinstance(training, Network):
            heads = {task: task for task in training.tasks}
            model = self.model(training)
        else:
            heads = {training.task: training.name}
            model = self._add(training)
        with ModelFolder.open(model) as folder:
            return {task: folder.heads[name] for task, name in heads.items()}

    def _add(self, decoder: Decoder) -> Path:
        model, seed = self.model(decoder.network), decoder.network.seed
        settings = json.loads(decoder.settings)
        options = self._options(decoder.head, decoder.steps, self.setting.head_lr, seed, settings)
        with ModelFolder.open(model) as folder:
            found = folder.heads.get(decoder.name)
        if found is not None and found.head == self._head_ref(decoder):
            asked = {"steps": decoder.steps, "lr": options.lr, "batch": options.batch, "seed": seed}
            if asked.items() <= found.provenance.items():
                return model
        add_task(
            decoder.task,
            model=model,
            name=decoder.name,
            replace=found is not None,  # with other settings, from an earlier version
            data=[self.setting.data],
            options=options,
            host=self.host,
            progress=self.progress,
        )
        return model

    def _unmoved(self, network: Network) -> bool:
        """Whether the heads trained with a network are still what they were, bit for bit."""
        model = self.model(network)
        with ModelFolder.open(model) as folder:
            revisions = folder.manifest.heads
        files = {task: Layout(model).head_weights(task, revisions[task]) for task in network.tasks}
        found = {task: hashlib.sha256(file.read_bytes()) for task, file in files.items()}
        before = self.facts(network, scored=False).sha256
        return before == {task: digest.hexdigest() for task, digest in found.items()}

    def _cache(self, features: Features) -> None:
        with ModelFolder.open(self.model(features.network)) as folder:
            record = folder.manifest.backbone
            backbone = restore_backbone(record, folder.read_backbone())
        dataset = self._dataset("train")
        size = preparation.training_size(dataset, None, self.setting.batch)
        source = Source(dataset, size, fixed_views(DEFAULT_VIEWS))
        tasks = [self._task(name) for name in features.tasks]
        bindings = [Binding(task, task.labels) for task in tasks]
        cache_tasks(backbone.to(self.device), record.fingerprint, source, bindings, self.progress)

    def _make_coupled(self, training: Coupled) -> None:
        with ModelFolder.open(self.model(training.network)) as folder:
            backbone = restore_backbone(folder.manifest.backbone, folder.read_backbone())
        dataset = self._dataset("train")
        rate = self.setting.head_lr if training.frozen else self.setting.source_lr
        model = train_coupled(
            COUPLED[training.decoder],
            backbone,
            training.tasks,
            dataset,
            size=preparation.training_size(dataset, None, self.setting.batch),
            settings=TrainSettings(training.steps, self.setting.batch, rate, training.network.seed),
            frozen=training.frozen,
            folder=self._seed(training.network.seed) / training.name,
            host=self.host,
            progress=self.progress,
            device=self.device,
        )
        seconds = model.outcome.cpu_seconds
        facts = Facts(**model.costs(), cpu_seconds=seconds, device=device_name(self.device))
        scores = score_coupled(model, self._dataset("val"), self.progress)
        self._keep(training, facts, scores)

    def _score(self, training: Network | Decoder, tasks: Iterable[str]) -> Run:
        network = training if isinstance(training, Network) else training.network
        heads = {training.name if isinstance(training, Decoder) else t: t for t in tasks}
        model = open_model(self.model(network), list(heads), self.device, self.host)
        ref = DataRef.parse(self.setting.data)
        found, _, _ = score(
            model, list(heads), [ref], "val", None, self.setting.limit, self.progress
        )
        return {heads[name]: result.scores for name, result in found.items()}

    # Where things are kept

    def _made(self, training: Training, scored: bool) -> Path:
        self.make(training, scored)
        path = self._kept(training, scored)
        if path is None:
            raise FileNotFoundError(self._result(training))
        return path

    def _kept(self, training: Training, scored: bool) -> Path | None:
        """The file of a finished training, if it is of the present settings."""
        path = self._result(training)
        if not path.exists():
            return None
        with safetensors.safe_open(path, framework="pt") as file:
            about = file.metadata()
        fits = about["identity"] == self._identity(training)
        return path if fits and (about["tasks"] != "[]" or not scored) else None

    def _keep(self, training: Training, facts: Facts, scores: Run | None) -> None:
        tensors = {
            f"{task}.{number}": rows
            for task, found in (scores or {}).items()
            for number, rows in enumerate(found.statistics())
        }
        about = {
            "identity": self._identity(training),
            "facts": json.dumps(facts.as_json()),
            "tasks": json.dumps(list(scores or {})),
        }
        path = self._result(training)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(safetensors.torch.save(tensors, metadata=about))
        os.replace(unfinished, path)

    def _identity(self, training: Training) -> str:
        """What a result depends on beside the code."""
        identity: dict[str, Any] = {"training": repr(training), "setting": self.setting.as_json()}
        if isinstance(training, Decoder):
            identity["head"] = self._head_ref(training).model_dump(mode="json")
        return json.dumps(identity, sort_keys=True)

    def _result(self, training: Training) -> Path:
        network = training if isinstance(training, Network) else training.network
        name = hashlib.sha256(repr(training).encode()).hexdigest()[:16]
        kind = type(training).__name__.lower()
        return self._seed(network.seed) / "results" / f"{kind}-{name}.safetensors"

    def _whole(self, network: Network, make: Callable[[Path], None]) -> Path:
        """A folder that is either whole or not there."""
        path = self._seed(network.seed) / network.name
        if not path.exists():
            unfinished = path.with_name(f"{network.name}.unfinished")
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            make(unfinished)
            os.replace(unfinished, path)
        return path

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

    def _dataset(self, split: str) -> Dataset:
        whole = load_dataset(self.host, DataRef.parse(self.setting.data), split)
        return shorten(whole, self.setting.limit)

    def _task(self, name: str) -> Task:
        """A task with the classes of the data set."""
        spec = self.host.tasks.get(name)
        return make_task(self.host, spec, check_target(self._dataset("val"), spec))

    def _head_ref(self, decoder: Decoder) -> Any:
        spec = self.host.tasks.get(decoder.task)
        return complete_head_ref(self.host, spec, decoder.head, json.loads(decoder.settings))

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
            device=self.device,
            resume=True,
        )


def _facts(heads: Mapping[str, HeadManifest], device: str) -> Facts:
    records = heads.values()
    return Facts(
        gmacs=sum(record.gmacs for record in records),
        params=sum(record.params for record in records),
        # joint trainings write the time of all heads into each
        cpu_seconds=max((r.provenance["cpu_seconds"] for r in records), default=0.0),
        device=device_name(device),
        figures={task: record.metrics for task, record in heads.items()},
        sha256={task: record.sha256 for task, record in heads.items()},
    )
