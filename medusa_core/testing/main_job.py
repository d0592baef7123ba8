"""The main job in small: a head is trained, committed, measured and used."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from PIL import Image

from medusa_core.api import DatasetSpec, Sample, TargetInfo, hookimpl
from medusa_core.plugin_host import Host, PluginSettings, load_host
from medusa_core.testing.checks import require
from medusa_core.testing.subjects import TaskSubject

BACKBONE = "test_resnet"
IMAGES = 6
SIZE = (48, 64)

_SUBJECTS: dict[str, TaskSubject] = {}
"""What `SampleDataset` shows, by location."""


@dataclass(frozen=True)
class _EntryPoint:
    """A plugin as if it were installed."""

    name: str
    module: ModuleType

    @property
    def value(self) -> str:
        return self.module.__name__

    @property
    def dist(self) -> Any:
        return SimpleNamespace(name=self.name, version="0", requires=[])

    def load(self) -> ModuleType:
        return self.module


def plugin_host(*plugins: ModuleType) -> Host:
    """A host of these plugins and the built-in heads and `folder`, whatever else is installed.

    Raises:
        PluginError: one of them cannot be loaded.
    """
    built_in = ("medusa_core.heads.plugin", "medusa_core.data.plugin")
    modules = [*map(import_module, built_in), *plugins]
    points = [_EntryPoint(module.__name__.replace("_", "-"), module) for module in modules]
    return load_host(points, PluginSettings(strict=True))


class SampleDataset:
    """The samples of a subject; see `medusa_core.api.Dataset`. Its location is a task's name."""

    def __init__(self, location: str | None, split: str) -> None:
        self.subject = _SUBJECTS[location or ""]
        spec = self.subject.spec
        self.name, self.split, self.digest = "samples", split, f"{spec.name}-{split}"
        self.ids = tuple(f"{split}-{index}" for index in range(IMAGES))
        self.targets: Mapping[str, TargetInfo] = {}
        if spec.target.source == "data":
            info = TargetInfo(labels=self.subject.schema, unit=spec.target.unit)
            self.targets = {spec.target_name: info}

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return SIZE

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """One sample, with its target if that is asked for."""
        sample = self.subject.raw_sample(SIZE, index)
        wanted = sample.targets if targets is None else set(targets) & set(sample.targets)
        return Sample(
            self.ids[index], sample.image, {name: sample.targets[name] for name in wanted}
        )


def main_job_works(subject: TaskSubject) -> None:
    """A head is trained, committed, verified, measured and used; results are JSON and pictures."""
    import medusa_core as medusa

    data = ModuleType("medusa_testing_data")
    described = DatasetSpec(
        name="samples",
        title="Samples of a check",
        implementation=f"{__name__}:SampleDataset",
        targets=(subject.spec.target_name,) if subject.spec.target.source == "data" else (),
    )
    data.medusa_register_datasets = hookimpl(lambda: [described])  # type: ignore[attr-defined]
    host = plugin_host(subject.plugin, data)
    name = subject.spec.name
    _SUBJECTS[name] = subject
    with _scratch() as folder:
        model, source = folder / "model", [f"samples:{name}"]
        medusa.init(model, backbone=BACKBONE, from_scratch=True, seed=0)
        options: dict[str, Any] = {
            "steps": 2,
            "batch": 2,
            "views": 2,
            "size": SIZE,
            "device": "cpu",
        }
        medusa.add_task(name, model=model, data=source, host=host, **options)
        scores = medusa.evaluate(model, data=source, host=host, device="cpu")["heads"][name]
        require(
            set(scores["metrics"]) == {ref.name for ref in subject.spec.metrics},
            f"eval reports {sorted(scores['metrics'])}",
        )
        primary = scores["metrics"][subject.spec.primary_metric.name]
        require(math.isfinite(primary), f"eval reports {primary} as the primary figure")
        picture = folder / "picture.png"
        Image.fromarray(subject.raw_sample((70, 50)).image).save(picture)
        done = medusa.predict(
            [picture], model=model, out=folder / "out", raw=True, host=host, device="cpu"
        )
        json.dumps([scores, done])
        [entry] = done["images"][0]["results"]
        require(Path(entry["values"]).exists(), "predict --raw writes no values")
        with Image.open(entry["rendering"]) as rendering:
            require(rendering.size == (50, 70), f"the rendering is {rendering.size}, not (50, 70)")
        require(
            subject.dense or "value" in entry, "the value of a whole image is not in the document"
        )
        report = medusa.verify(model, host=host)
        require(report["ok"], f"verify finds: {report}")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for models, results and the feature cache, gone afterwards."""
    before = os.environ.get("MEDUSA_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDUSA_CACHE"] = str(Path(folder) / "cache")
        try:
            yield Path(folder)
        finally:
            os.environ.pop("MEDUSA_CACHE")
            if before is not None:
                os.environ["MEDUSA_CACHE"] = before
