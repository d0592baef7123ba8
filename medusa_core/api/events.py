"""What the host tells plugins about, and what it asks them for. Frozen: fields may be added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType


def _none() -> Mapping[str, float | None]:
    return MappingProxyType({})


@dataclass(frozen=True)
class HeadAdded:
    """A head was committed to a model folder.

    model: the folder. name: of the head. distribution, version: what provides its task.
    metrics: figure → score on the selection split, None where nothing was measured; read-only.
    replaced: whether there was a head of that name before.
    """

    model: Path
    name: str
    task: str
    distribution: str
    version: str
    metrics: Mapping[str, float | None] = field(default_factory=_none)
    replaced: bool = False


@dataclass(frozen=True)
class HeadRemoved:
    """A head was removed from a model folder."""

    model: Path
    name: str


@dataclass(frozen=True)
class HeadEvaluated:
    """A head was scored by `medusa eval`.

    data: the data sets, as `--data` names them. metrics: figure → score, None where nothing was
    measured; read-only.
    """

    model: Path
    name: str
    task: str
    data: tuple[str, ...]
    split: str
    images: int
    metrics: Mapping[str, float | None] = field(default_factory=_none)


@dataclass(frozen=True)
class WeightsRequest:
    """The pretrained weights that `medusa init --pretrained` is about to fetch.

    backbone: name of the timm model. repository: where timm keeps its file `model.safetensors` on
    the Hugging Face hub, None where it keeps none.
    """

    backbone: str
    repository: str | None = None
