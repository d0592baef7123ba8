"""Training and scoring coupled decoders, by the product's own training and evaluation."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.coupled import CoupledDecoder
from medusa_core.api import Dataset, Task
from medusa_core.backbones.fingerprint import fingerprint
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.data.geometry import IDENTITY, Size
from medusa_core.engine import checkpoint
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.datasets import check_target, require_same_labels, selection_split
from medusa_core.engine.evaluator import evaluate
from medusa_core.engine.feature_cache import cache_images
from medusa_core.engine.joint_training import JointTask, JointTraining, as_input
from medusa_core.engine.outcome import Outcome, TrainSettings
from medusa_core.engine.scores import Scores
from medusa_core.heads.base import Head
from medusa_core.model.assembly import make_task
from medusa_core.model.costs import head_gmacs, parameters
from medusa_core.model.devices import seeded
from medusa_core.model.images import finish, resized, working_size
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.model.upsampling import upsample
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress


class CoupledTraining(JointTraining):
    """A joint training whose predictions come from one decoder for all tasks."""

    decoder: CoupledDecoder

    def training_outputs(
        self, features: Sequence[Tensor], names: Sequence[str]
    ) -> dict[str, list[tuple[float, Tensor]]]:
        """Predictions and initial predictions of every task."""
        return self.decoder.training_outputs(features)

    def evaluation_outputs(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """The prediction of every task."""
        return self.decoder(features)


@dataclass(frozen=True)
class CoupledModel:
    """A trained coupled network, in evaluation mode.

    size: (H, W) of the images it was trained on.
    """

    backbone: Backbone
    decoder: CoupledDecoder
    tasks: Mapping[str, Task]
    size: Size
    outcome: Outcome

    @property
    def gmacs(self) -> float:
        """10⁹ multiply-accumulates of the decoder at 480×640."""
        return head_gmacs(cast("Head", self.decoder), self.backbone.info)

    @property
    def params(self) -> int:
        """Parameters of the decoder."""
        return parameters(self.decoder)

    def raw_predictions(
        self, image: np.ndarray, names: Iterable[str], long_side: int | None = None
    ) -> dict[str, Tensor]:
        """As `MedusaModel.raw_predictions`, at the scale the network was trained at."""
        picture = (int(image.shape[0]), int(image.shape[1]))
        size = working_size(self.size, picture, long_side)
        batch = as_input(self.backbone, [resized(image, size)])
        outputs = self.decoder(self.backbone(batch))
        result = {}
        for name in names:
            raw = finish(outputs[name], self.tasks[name], size)
            dense = self.tasks[name].spec.output.kind == "dense"
            result[name] = upsample(raw, picture) if dense else raw
        return result


def train_coupled(
    decoder: type[CoupledDecoder],
    backbone: Backbone,
    tasks: Sequence[str],
    dataset: Dataset,
    *,
    size: Size,
    settings: TrainSettings,
    frozen: bool,
    folder: Path,
    host: Host,
    progress: Progress,
    balance: str = "fixed",
    device: str = "cpu",
) -> CoupledModel:
    """Train a coupled decoder, alone or with its backbone; what is finished in `folder` is kept.

    Optimiser, schedule, views, selection part and the choice of weights are those of
    `medusa train-backbone`; so are the first weights of the decoder, given equal modules.

    Args:
        decoder: `PADNet` or `MTINet`.
        backbone: to start from; it is copied.
        tasks: names of installed tasks, in order; the data set has the target of each.
        dataset: its selection part decides which weights are kept.
        size: (H, W) to train at.
        settings: as in `medusa train-backbone`.
        frozen: train the decoder only, as is necessary where a task comes to a network in use.
        folder: for the state of the training; one that was interrupted there is resumed.
        host: knows the tasks.
        progress: follows caching and training.
        balance: how the losses of the tasks are weighted.
        device: where to compute.

    Raises:
        UsageError: the folder holds a training with other settings.
        DataError: the data set lacks a target.
        TrainingError: the training diverged.
    """
    specs = [host.tasks.get(name) for name in tasks]
    labels = [check_target(dataset, spec) for spec in specs]
    bindings = {
        spec.name: Binding(make_task(host, spec, own), own)
        for spec, own in zip(specs, labels, strict=True)
    }
    backbone = copy.deepcopy(backbone)
    backbone.frozen = frozen
    backbone.requires_grad_(not frozen).train()
    identity: dict[str, Any] = {
        "decoder": decoder.__name__,
        "tasks": list(bindings),
        "data": dataset.digest,
        "size": list(size),
        "frozen": frozen,
        "backbone": fingerprint(backbone.description.identity(), backbone.weights()),
    }
    images, rows = cache_images(
        Source(dataset, size, (IDENTITY,)), list(bindings.values()), progress
    )
    parts = selection_split(dataset)
    with seeded(device, settings.seed):
        module = decoder(backbone.info, {n: b.task.out_channels for n, b in bindings.items()})
        training = CoupledTraining(
            backbone,
            {
                name: JointTask(binding, None, *targets)
                for (name, binding), targets in zip(bindings.items(), rows, strict=True)
            },
            images,
            parts,
            settings,
            identity,
            folder / "training",
            device,
            module.to(memory_format=torch.channels_last),
            balance,
        )
        outcome = _finish(training, folder / "finished", progress)
    module.eval().requires_grad_(False)
    model_tasks = {name: binding.task for name, binding in bindings.items()}
    return CoupledModel(backbone.freeze(), module, model_tasks, size, outcome)


def score_coupled(model: CoupledModel, dataset: Dataset, progress: Progress) -> dict[str, Scores]:
    """Statistics of every task on a data set, as `medusa eval` gathers those of heads.

    Images are those with a target of the task, in the order of the data set, so that scores of
    several methods can be compared image by image.

    Args:
        model: a trained network.
        dataset: one split.
        progress: counts images.

    Raises:
        DataError: the data set lacks a target.
        LabelsError: it has other classes than the network was trained on.
    """
    bindings = {}
    for name, task in model.tasks.items():
        labels = check_target(dataset, task.spec)
        require_same_labels(task.labels, labels, f"Task {name!r} (first) and {dataset.name}")
        bindings[name] = Binding(task, labels)
    # Of a model, evaluation uses nothing but `raw_predictions`.
    found = evaluate(cast("MedusaModel", model), dataset, bindings, progress)
    return {name: result.scores for name, result in found.items()}


def _finish(training: CoupledTraining, folder: Path, progress: Progress) -> Outcome:
    """The outcome of a training, its best weights in its module; made only once a folder."""
    done = checkpoint.load_state(folder, training.identity)
    if done is not None:
        training.module.load_state_dict(done[0])
        training.module.eval()
        return Outcome(**done[1]["outcome"])
    if training.resume():
        progress.message(f"Going on at step {training.step}.")
    decoder = type(training.decoder).__name__
    outcome = training.run(progress, f"Training {decoder} on {', '.join(training.tasks)}")
    facts = {"identity": training.identity, "outcome": asdict(outcome)}
    checkpoint.save_state(folder, training.module.state_dict(), facts)
    return outcome
