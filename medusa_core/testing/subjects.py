"""What checks look at: a plugin's task, head or data set, built as the host builds them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from medusa_core.api import (
    DatasetSpec,
    FeatureInfo,
    HeadSpec,
    LabelSchema,
    Sample,
    Task,
    TaskSpec,
)
from medusa_core.data.geometry import Size
from medusa_core.engine.binding import Binding
from medusa_core.engine.feature_cache import as_target
from medusa_core.errors import UnknownNameError
from medusa_core.heads import plugin as built_in
from medusa_core.heads.base import Head
from medusa_core.testing.checks import require
from medusa_core.testing.fakes import LABELS, fake_sample

SIZE: Size = (37, 53)
BATCH = 3

Spec = TypeVar("Spec", TaskSpec, HeadSpec, DatasetSpec)


def provided(plugin: ModuleType, hook: str) -> list[Any]:
    """What a hook of a plugin returns; nothing where it has no such hook."""
    function = getattr(plugin, hook, None)
    return [] if function is None else list(function())


def choose(plugin: ModuleType, hook: str, kind: str, name: str | None) -> Any:
    """The spec of that name, or the only one there is.

    Raises:
        UnknownNameError: the plugin has no such spec. ValueError: it has several, name one.
    """
    specs = provided(plugin, hook)
    if name is None:
        if len(specs) != 1:
            names = ", ".join(spec.name for spec in specs) or "none"
            raise ValueError(f"{plugin.__name__}.{hook} gives {names}: say which {kind} to check")
        return specs[0]
    for spec in specs:
        if spec.name == name:
            return spec
    raise UnknownNameError(kind, name, [spec.name for spec in specs])


def imported(reference: str) -> Any:
    """The object behind an import string of a spec."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def default_config(spec: TaskSpec | HeadSpec, settings: dict[str, Any] | None = None) -> Any:
    """The configuration of a task or head: defaults, and what differs from them."""
    if spec.config_model is None:
        return None
    return imported(spec.config_model).model_validate(settings or {})


@dataclass(frozen=True)
class TaskSubject:
    """A task of a plugin, and samples for it."""

    plugin: ModuleType
    spec: TaskSpec
    labels: LabelSchema | None = None
    sample: Callable[[Size, int], Sample] | None = None

    @cached_property
    def schema(self) -> LabelSchema | None:
        """The classes of the target."""
        return (self.labels or self.spec.labels or LABELS) if self.spec.has_labels else None

    @property
    def dense(self) -> bool:
        """Whether the task predicts one value a pixel, not one an image."""
        return self.spec.output.kind == "dense"

    def make(self) -> Task:
        """The task as the host makes it."""
        task: Task = imported(self.spec.implementation)(
            self.spec, self.schema, default_config(self.spec)
        )
        return task

    def raw_sample(self, size: Size = SIZE, seed: int = 0) -> Sample:
        """An image and its target as a data set holds it."""
        if self.sample is not None:
            return self.sample(size, seed)
        return fake_sample(self.spec, self.schema, size, seed)

    def encoded(self, task: Task, size: Size = SIZE, seed: int = 0) -> np.ndarray:
        """The target to learn from; the task gets copies, as from the host."""
        sample = self.raw_sample(size, seed)
        raw = sample.targets.get(self.spec.target_name)
        copied = None if raw is None else raw.copy()
        return np.asarray(task.encode_target(copied, sample.image.copy()))

    def batch(self, task: Task, size: Size = SIZE) -> tuple[Tensor, Tensor]:
        """Targets and valid masks of a few samples, as losses and metrics get them."""
        binding = Binding(task, self.schema)
        targets = [self.encoded(task, size, seed) for seed in range(BATCH)]
        valid = np.stack([np.asarray(binding.valid(target)) for target in targets])
        return as_target(np.stack(targets)), torch.from_numpy(valid)

    def prediction(self, task: Task, scale: float = 1.0, size: Size = SIZE) -> Tensor:
        """Raw predictions, by chance but the same every time."""
        shape = (BATCH, task.out_channels, *(size if self.dense else ()))
        return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def as_decoded(self, target: Tensor, valid: Tensor) -> Tensor:
        """What `decode` returns where the prediction is the target."""
        mask = valid if valid.ndim == target.ndim else valid.unsqueeze(1)
        mask = mask.expand_as(target)
        known = target[mask]
        require(known.numel(), "no made-up target is valid: give check_task a `sample`")
        value = torch.where(mask, target, known[0])
        return value if self.spec.output.activation == "argmax" else value.float()

    def head_spec(self) -> HeadSpec:
        """The architecture of the default head: of this plugin, or a built-in one."""
        name = self.spec.default_head.name
        own = provided(self.plugin, "medusa_register_heads")
        for spec in [*own, *built_in.medusa_register_heads()]:
            if spec.name == name:
                return spec
        raise UnknownNameError(
            "head architecture",
            name,
            [spec.name for spec in [*own, *built_in.medusa_register_heads()]],
            hint="A default head must be built in, or of the same plugin.",
        )

    def head(self, task: Task, features: FeatureInfo, seed: int = 0) -> Head:
        """The default head, with fresh weights."""
        spec = self.head_spec()
        config = default_config(spec, self.spec.default_head.config)
        return build_head(spec, features, task.out_channels, config, seed)


@dataclass(frozen=True)
class HeadSubject:
    """A head architecture of a plugin."""

    plugin: ModuleType
    spec: HeadSpec
    settings: dict[str, Any] = field(default_factory=dict)

    def make(self, features: FeatureInfo, out_channels: int = 3, seed: int = 0) -> Head:
        """The head with fresh weights."""
        config = default_config(self.spec, self.settings)
        return build_head(self.spec, features, out_channels, config, seed)


@dataclass(frozen=True)
class DatasetSubject:
    """A data set of a plugin, where it lies, and its splits."""

    plugin: ModuleType
    spec: DatasetSpec
    location: str | None
    splits: tuple[str, ...]

    def open(self, split: str | None = None) -> Any:
        """One split of it, the first for None."""
        return imported(self.spec.implementation)(self.location, split or self.splits[0])


def build_head(
    spec: HeadSpec, features: FeatureInfo, out_channels: int, config: Any, seed: int
) -> Head:
    """A head of that architecture, its weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head: Head = imported(spec.implementation)(features, out_channels, config)
    return head
