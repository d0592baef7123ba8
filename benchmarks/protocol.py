"""How comparisons are run: trainings that are done once and kept, with their scores on *val*.

Networks lie under one folder, by data set and seed, and are found again by the next run: an
interrupted benchmark goes on where it was, and comparisons share their networks. What a training
has shown is a small file of its own, kept with the project: trainings of many hours can be done
here and there, and where their results are, the networks are not needed any more. Decoders whose
network was trained anew, and came out differently, are trained anew, too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.gains import Judged, Run, judged
from benchmarks.peers.coupled import CoupledDecoder, MTINet, PADNet
from benchmarks.peers.host import peers_host
from benchmarks.peers.training import score_coupled, train_coupled
from benchmarks.report import device_name
from benchmarks.trainings import Coupled, Decoder, Facts, Features, Network, Training, network_of
from medusa_core.api import Dataset, MetricRef, Task
from medusa_core.cli._progress import LineProgress
from medusa_core.data.geometry import fixed_views
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.datasets import DataRef, check_target, load_dataset, shorten
from medusa_core.engine.feature_cache import cache_tasks
from medusa_core.engine.outcome import TrainSettings
from medusa_core.engine.scores import Scores
from medusa_core.model.assembly import complete_head_ref, make_task
from medusa_core.model.opening import open_model, restore_backbone
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress
from medusa_core.store.folder import ModelFolder
from medusa_core.store.manifest import HeadManifest
from medusa_core.workflows import preparation
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.evaluate import score
from medusa_core.workflows.init import init
from medusa_core.workflows.train_backbone import train_backbone
from medusa_core.workflows.training.head_plan import DEFAULT_LR, DEFAULT_VIEWS

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
        weights = None if self.weights is None else file_digest(self.weights)
        return {**vars(self), "data": self.name, "weights": weights}


@functools.cache
def file_digest(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rooms(quick: bool) -> Setting:
    """Synthetic rooms, everything from scratch.

    Batches of 8, not more, so that three seeds of a question are a matter of hours.
    """
    whole = Setting("rooms", "rooms", "hrnet_w18_small", None, 8, 2400, 1200, source_lr=2e-3)
    if not quick:
        return whole
    return replace(whole, name="rooms-quick", source_steps=20, head_steps=10, limit=24)


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
    """Trains what is asked for, or finds it.

    folder: of networks. results: of what trainings have shown.
    """

    setting: Setting
    folder: Path
    results: Path
    device: str = "cpu"

    @cached_property
    def host(self) -> Host:
        """The installed plugins and the peers."""
        return peers_host()

    @property
    def on_card(self) -> bool:
        """Whether steps are recorded: all heads here do the same in every step."""
        return self.device.startswith("cuda")

    @cached_property
    def progress(self) -> Progress:
        """Lines, now and then."""
        return LineProgress(interval=60)

    def make(self, training: Training, scored: bool = True) -> None:
        """Train and, where wanted, score on *val* what has not been yet, and what it needs."""
        if isinstance(training, Features):
            self._cache(training)
            return
        if self.done(training, scored):
            return
        if not isinstance(training, Network):
            self.model(training.network)
            self.make(training.network, scored=False)
        if isinstance(training, Coupled):
            self._make_coupled(training)
        else:
            heads = self._trained(training)
            found = self._score(training, list(heads)) if scored else None
            facts = self._facts(training, heads)  # of a training that may be scored only now
            if isinstance(training, Decoder):
                facts = replace(facts, unmoved=self._unmoved(training.network))
            self._keep(training, facts, found)

    def done(self, training: Training, scored: bool = True) -> bool:
        """Whether there is a result, of the present settings and of the present network."""
        kept = self._kept(training)
        return kept is not None and (bool(kept["tasks"]) or not scored)

    def run(self, training: Training) -> Run:
        """How well every task of a training is done on *val*."""
        return {name: Judged(**of) for name, of in self._made(training, True)["tasks"].items()}

    def facts(self, training: Training, scored: bool = True) -> Facts:
        """Costs and selection scores of a training."""
        return Facts(**self._made(training, scored)["facts"])

    def model(self, network: Network) -> Path:
        """The model folder of a network.

        The result of one that was trained elsewhere, and came out differently, is dropped.
        """
        path = self._network(network)
        if not path.exists():
            unfinished = path.with_name(f"{path.name}.unfinished")
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            if network.tasks:
                self._train(unfinished, network)
            else:
                self._init(unfinished, network.seed)
            os.replace(unfinished, path)
        kept = self._kept(network)
        if kept is not None:
            with ModelFolder.open(path) as folder:
                own = folder.manifest.backbone.fingerprint
            if kept["facts"]["backbone"] != own:
                self._result(network).unlink(missing_ok=True)
        return path

    def judged_by(self, task: str) -> MetricRef:
        """The metric a task is compared by."""
        spec = self.host.tasks.get(task)
        name = JUDGED_BY.get(task, spec.primary_metric.name)
        return next(ref for ref in spec.metrics if ref.name == name)

    # How each kind of training is done

    def _train(self, path: Path, network: Network) -> None:
        if not path.exists():
            self._init(path, network.seed)
        with ModelFolder.open(path) as folder:
            if folder.heads:  # interrupted when it had been trained
                return
        train_backbone(
            path,
            tasks=network.tasks,
            data=[self.setting.data],
            host=self.host,
            progress=self.progress,
            **self._options(network, self.setting.source_lr),
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
        model = self.model(decoder.network)
        options = self._options(decoder, self.setting.head_lr)
        with ModelFolder.open(model) as folder:
            found = folder.heads.get(decoder.name)
        head = self._head_ref(decoder.task, decoder)
        if found is not None and found.head.model_dump(mode="json") == head:
            asked = {key: options[key] for key in ("steps", "lr", "batch", "seed")}
            if asked.items() <= found.provenance.items():
                return model
        add_task(
            decoder.task,
            model=model,
            name=decoder.name,
            replace=found is not None,  # with other settings, from an earlier version
            data=[self.setting.data],
            host=self.host,
            progress=self.progress,
            **options,
        )
        return model

    def _unmoved(self, network: Network) -> bool:
        """Whether the heads trained with a network are still what they were, bit for bit."""
        before = self.facts(network, scored=False).sha256
        with ModelFolder.open(self.model(network)) as folder:
            for task in network.tasks:
                folder.read_head(task)  # fails where the bytes are not those of the record
            return before == {task: folder.heads[task].sha256 for task in network.tasks}

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
            record = folder.manifest.backbone
            backbone = restore_backbone(record, folder.read_backbone())
        dataset = self._dataset("train")
        rate = self.setting.head_lr if training.frozen else self.setting.source_lr
        model = train_coupled(
            COUPLED[training.decoder],
            backbone,
            training.tasks,
            dataset,
            size=preparation.training_size(dataset, None, self.setting.batch),
            settings=TrainSettings(
                training.steps,
                self.setting.batch,
                rate,
                training.network.seed,
                cuda_graphs=self.on_card,
            ),
            frozen=training.frozen,
            folder=self._network(training.network).with_suffix(f".{training.name}"),
            host=self.host,
            progress=self.progress,
            device=self.device,
        )
        facts = Facts(
            gmacs=model.gmacs,
            params=model.params,
            cpu_seconds=model.outcome.cpu_seconds,
            backbone=record.fingerprint,
            device=device_name(self.device),
        )
        scores = score_coupled(model, self._dataset("val"), self.progress)
        self._keep(training, facts, scores)

    def _score(self, training: Network | Decoder, tasks: Iterable[str]) -> Mapping[str, Scores]:
        heads = {training.name if isinstance(training, Decoder) else t: t for t in tasks}
        model = open_model(self.model(network_of(training)), list(heads), self.device, self.host)
        ref = DataRef.parse(self.setting.data)
        found, _, _ = score(
            model, list(heads), [ref], "val", None, self.setting.limit, self.progress
        )
        return {heads[name]: result.scores for name, result in found.items()}

    def _facts(self, training: Network | Decoder, heads: Mapping[str, HeadManifest]) -> Facts:
        records, before = heads.values(), self._kept(training)
        with ModelFolder.open(self.model(network_of(training))) as folder:
            fingerprint = folder.manifest.backbone.fingerprint
        return Facts(
            gmacs=sum(record.gmacs for record in records),
            params=sum(record.params for record in records),
            # joint trainings write the time of all heads into each
            cpu_seconds=max((r.provenance["cpu_seconds"] for r in records), default=0.0),
            backbone=fingerprint,
            device=device_name(self.device) if before is None else before["facts"]["device"],
            figures={task: record.metrics for task, record in heads.items()},
            sha256={task: record.sha256 for task, record in heads.items()},
        )

    # Where things are kept

    def _made(self, training: Training, scored: bool) -> dict[str, Any]:
        self.make(training, scored)
        kept = self._kept(training)
        if kept is None:
            raise FileNotFoundError(self._result(training))
        return kept

    def _kept(self, training: Training) -> dict[str, Any] | None:
        """The result of a training; None where it is of other settings or another network."""
        path = self._result(training)
        if not path.exists():
            return None
        result: dict[str, Any] = json.loads(path.read_text())
        if result["identity"] != self._identity(training):
            return None
        if not isinstance(training, Network):
            below = self._kept(training.network)
            if below is None or below["facts"]["backbone"] != result["facts"]["backbone"]:
                return None
        return result

    def _keep(self, training: Training, facts: Facts, scores: Mapping[str, Scores] | None) -> None:
        tasks = {
            task: asdict(judged(found, self.judged_by(task).name))
            for task, found in (scores or {}).items()
        }
        result = {"identity": self._identity(training), "facts": asdict(facts), "tasks": tasks}
        path = self._result(training)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(result) + "\n")
        os.replace(unfinished, path)

    def _identity(self, training: Training) -> dict[str, Any]:
        """What a result depends on beside the code."""
        identity: dict[str, Any] = {"training": repr(training), "setting": self.setting.as_json()}
        if isinstance(training, Decoder):
            identity["head"] = self._head_ref(training.task, training)
        if isinstance(training, Network):
            identity["heads"] = [self._head_ref(task, training) for task in training.tasks]
        return identity

    def _network(self, network: Network) -> Path:
        """Where the model folder of a network of the present settings is."""
        identity = json.dumps(self._identity(network), sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
        return self._seed(network.seed) / f"{network.name}-{digest}"

    def _result(self, training: Training) -> Path:
        digest = hashlib.sha256(repr(training).encode()).hexdigest()[:12]
        name = f"{type(training).__name__.lower()}-{digest}.json"
        return self.results / self.setting.name / f"seed-{network_of(training).seed}" / name

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

    def _head_ref(self, task: str, training: Network | Decoder) -> dict[str, Any]:
        """An architecture with every setting spelled out."""
        spec, settings = self.host.tasks.get(task), json.loads(training.settings)
        ref = complete_head_ref(self.host, spec, training.head, settings)
        return ref.model_dump(mode="json")

    def _options(self, training: Network | Decoder, lr: float) -> dict[str, Any]:
        return {
            "head": training.head,
            "settings": json.loads(training.settings),
            "steps": training.steps,
            "batch": self.setting.batch,
            "lr": lr,
            "seed": network_of(training).seed,
            "limit": self.setting.limit,
            "device": self.device,
            "cuda_graphs": self.on_card,
            "resume": True,
        }
