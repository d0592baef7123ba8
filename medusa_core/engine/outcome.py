"""How a training is set up, and what comes out of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainSettings:
    """How long, how fast, how exact. One cosine cycle of AdamW; see `schedule.one_cycle`.

    patience: stop after so many evaluations without a better one; None: never.
    cuda_graphs: record the networks' kernels with the first batch; see `cuda_graphs`.
    """

    steps: int
    batch: int
    lr: float
    seed: int = 0
    weight_decay: float = 1e-4
    evaluations: int = 5
    precision: str = "fp32"
    patience: int | None = None
    cuda_graphs: bool = False


@dataclass
class Outcome:
    """A finished training.

    curve: `{"step", "loss", <figure>…}` at each evaluation on the selection part; with several
        tasks also `loss.<task>`, before weighting.
    best: the figures of the weights that were kept. cpu_seconds: of this process, all threads.
    seconds: by the clock. log: all records, see `training_log`. restarts: `{"step", "lr"}` where a
        diverged training went on with a lower learning rate. balance: how losses were weighted.
    stopped_at: the step at which patience ended, before the last one.
    """

    curve: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    cpu_seconds: float = 0.0
    skipped_batches: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    restarts: list[dict[str, float]] = field(default_factory=list)
    balance: dict[str, Any] = field(default_factory=dict)
    stopped_at: int | None = None


class Clock:
    """Adds the time since it was made to that of an outcome."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.spent = outcome.cpu_seconds - time.process_time()
        self.passed = outcome.seconds - time.monotonic()

    def read(self) -> None:
        """Bring the outcome up to date."""
        self.outcome.cpu_seconds = self.spent + time.process_time()
        self.outcome.seconds = self.passed + time.monotonic()
