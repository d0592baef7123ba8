"""A data set in memory, and a backbone small enough to train in a blink."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medusa_core.api import HeadRef, LabelSchema, Sample, TargetInfo
from medusa_core.backbones import timm_backbone
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.data.geometry import IDENTITY, fixed_views
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.datasets import selection_split
from medusa_core.engine.feature_cache import cache_images, cache_tasks
from medusa_core.engine.joint_training import JointTask, JointTraining
from medusa_core.engine.outcome import TrainSettings
from medusa_core.model.assembly import make_head, make_task
from medusa_core.plugin_host import default_host
from medusa_core.progress import SilentProgress

SETTINGS = TrainSettings(steps=10, batch=3, lr=1e-2, seed=5, evaluations=3)
TINY = HeadRef(name="medusa", config={"width": 4, "fused_width": 4, "deep_supervision": 0.3})
LABELS = LabelSchema(names=("floor", "left", "right"), swap_pairs=((1, 2),))
SIZE = (40, 56)  # neither a multiple of 32 nor the size of any image


def fill(backbone, dataset, bindings, fingerprint="f" * 64, size=SIZE, views=3):
    source = Source(dataset, size, fixed_views(views))
    return cache_tasks(backbone, fingerprint, source, bindings, SilentProgress())


class Memory:
    """Noise images of odd sizes with depth, normals and classes; counts what is loaded."""

    def __init__(self, count: int = 6, lacks: dict[int, set[str]] | None = None, seed: int = 0):
        self.name, self.split = "memory", "train"
        self.ids = [f"image{i}" for i in range(count)]
        self.targets = {
            "depth": TargetInfo(unit="m"),
            "normals": TargetInfo(),
            "semseg": TargetInfo(labels=LABELS),
        }
        self.digest = f"memory:{count}:{seed}:{lacks}"
        self.lacks = lacks or {}
        self.loads: list[int] = []
        self._seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        return 40 + index % 3, 48

    def load(self, index, targets=None) -> Sample:
        self.loads.append(index)
        noise = np.random.RandomState(1000 * self._seed + index)
        height, width = self.size(index)
        depth = noise.uniform(1, 5, (height, width)).astype(np.float32)
        depth[:5] = 0
        normals = noise.normal(size=(height, width, 3)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        semseg = noise.randint(0, 3, (height, width)).astype(np.int64)
        semseg[:, :4] = 255
        every = {"depth": depth, "normals": normals, "semseg": semseg}
        wanted = every.keys() if targets is None else every.keys() & set(targets)
        gone = self.lacks.get(index, set())
        image = noise.randint(0, 256, (height, width, 3)).astype(np.uint8)
        return Sample(self.ids[index], image, {k: every[k] for k in sorted(wanted - gone)})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty feature cache of this test's own."""
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """A frozen backbone whose BatchNorm statistics are not those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = timm_backbone.build(timm_backbone.describe("test_efficientnet"))
        with torch.no_grad():
            made.train()(torch.rand(4, 3, 64, 64))
    return made.freeze()


@pytest.fixture
def bind() -> Callable[[str], Binding]:
    """Binds a first-party task to the classes of `Memory`."""

    def make(name: str) -> Binding:
        host = default_host()
        spec = host.tasks.get(name)
        labels = LABELS if spec.has_labels else None
        return Binding(make_task(host, spec, labels), labels)

    return make


@pytest.fixture
def memory() -> type[Memory]:
    """Makes a data set."""
    return Memory


@pytest.fixture
def make_joint(tmp_path: Path, cache: Path, memory: type[Memory], bind: Callable[[str], Binding]):
    """A training of a backbone and two heads; the same weights at the start each time."""

    def build(work="work", settings=SETTINGS, net="test_efficientnet", data=None, **options):
        torch.manual_seed(1)
        backbone = net
        if isinstance(net, str):
            backbone = timm_backbone.build(timm_backbone.describe(net))
        dataset, bindings = data or memory(8, {1: {"depth"}}), [bind("depth"), bind("semseg")]
        images, rows = cache_images(
            Source(dataset, (32, 32), (IDENTITY,)), bindings, SilentProgress()
        )
        tasks = {
            b.task.spec.name: JointTask(
                b, make_head(default_host(), TINY, backbone.info, b.task.out_channels), *targets
            )
            for b, targets in zip(bindings, rows, strict=True)
        }
        parts = selection_split(dataset)
        return JointTraining(
            backbone, tasks, images, parts, settings, {}, tmp_path / work, **options
        )

    return build
