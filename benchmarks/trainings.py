"""What comparisons are made of, as data: networks, decoders on them, coupled networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

CoupledKind = Literal["mtinet", "padnet"]


@dataclass(frozen=True)
class Network:
    """A backbone and heads of some tasks, trained jointly; without tasks, the first weights.

    settings: of the heads, that differ from the default ones, as JSON.
    """

    seed: int
    tasks: tuple[str, ...] = ()
    head: str = "plain"
    steps: int = 0
    settings: str = "{}"

    @property
    def name(self) -> str:
        """Of its model folder."""
        return f"{self.head}-{'+'.join(self.tasks)}-{self.steps}" if self.tasks else "start"


@dataclass(frozen=True)
class Features:
    """The cached features of a network, and the targets of some tasks."""

    network: Network
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Decoder:
    """A head of one task on the frozen backbone of a network.

    settings: that differ from the default ones, as JSON.
    """

    network: Network
    task: str
    head: str
    steps: int
    settings: str = "{}"

    @property
    def name(self) -> str:
        """Of the head, in the model folder of its network."""
        name = f"{self.task}_{self.head}"
        if self.settings == "{}":
            return name
        return f"{name}_{hashlib.sha256(self.settings.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Coupled:
    """A coupled decoder, trained from a network's backbone on, with it or on it `frozen`."""

    network: Network
    decoder: CoupledKind
    tasks: tuple[str, ...]
    steps: int
    frozen: bool

    @property
    def name(self) -> str:
        """Of its folder, beside that of its network."""
        kind = f"{self.decoder}-frozen" if self.frozen else self.decoder
        return f"{kind}-{'+'.join(self.tasks)}-{self.steps}"


def written(settings: Mapping[str, Any]) -> str:
    """Settings as trainings hold them: JSON that is the same for the same settings."""
    return json.dumps(dict(settings), sort_keys=True)


Training = Network | Features | Decoder | Coupled


def network_of(training: Training) -> Network:
    """The network that a training is, or stands on."""
    return training if isinstance(training, Network) else training.network


@dataclass(frozen=True)
class Facts:
    """What is told about a finished training beside how well it does on *val*.

    gmacs: at 480×640, and params: of all its decoders, without the backbone. backbone: fingerprint
    of the one that it stands on, or that came out of it. device: where it was trained, with what.
    figures: task → figures on the selection part, and sha256: task → of its head's weights; empty
    for coupled networks. unmoved: whether the heads that a decoder's network was trained with were
    the same afterwards, bit for bit.
    """

    gmacs: float
    params: float
    cpu_seconds: float
    backbone: str
    device: str
    figures: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    unmoved: bool = True
