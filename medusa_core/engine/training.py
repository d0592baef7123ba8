"""What every training does: steps, evaluations, the best weights, saving and resuming."""

from __future__ import annotations

import copy
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from medusa_core.api import Task
from medusa_core.engine import checkpoint
from medusa_core.engine.schedule import one_cycle
from medusa_core.errors import TrainingError
from medusa_core.heads.base import Head
from medusa_core.model.images import finish
from medusa_core.progress import Progress

MAX_GRADIENT = 5.0
SAVE_SECONDS = 30.0


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast. One cosine cycle of AdamW; see `schedule.one_cycle`."""

    steps: int
    batch: int
    lr: float
    seed: int = 0
    weight_decay: float = 1e-4
    evaluations: int = 5


@dataclass
class Outcome:
    """A finished training.

    curve: `{"step", "loss", <figure>…}` at each evaluation on the selection part.
    best: the figures of the weights that were kept. cpu_seconds: of this process, all threads.
    """

    curve: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    cpu_seconds: float = 0.0
    skipped_batches: int = 0


class Training(ABC):
    """One training: its state can be saved after any step and resumed bit-exactly on a CPU."""

    def __init__(
        self,
        module: nn.Module,
        settings: TrainSettings,
        identity: Mapping[str, Any],
        work: Path,
    ) -> None:
        self.module, self.settings, self.work = module, settings, work
        self.identity = {**asdict(settings), **identity}
        self.optimizer = torch.optim.AdamW(
            [p for p in module.parameters() if p.requires_grad],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
        )
        self.step = 0
        self.loss_sum = 0.0
        self.loss_count = 0
        self.best_state: dict[str, Tensor] = {}
        self.outcome = Outcome()
        self._whole = True  # not in the middle of a step

    @abstractmethod
    def loss(self) -> Tensor | None:
        """Loss of the batch of this step, None where it has no valid pixel."""

    @abstractmethod
    def skip(self, steps: int) -> None:
        """Go past the batches of the first steps, when resuming."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Scores of the present weights on the selection part."""

    @abstractmethod
    def improved(self, figures: Mapping[str, float]) -> bool:
        """Whether these figures are better than `outcome.best`."""

    @abstractmethod
    def headline(self, figures: Mapping[str, float]) -> dict[str, float]:
        """What is worth showing while it runs."""

    def resume(self) -> bool:
        """Take up an unfinished training; False where there is none.

        Raises:
            UsageError: it had other settings.
        """
        found = checkpoint.load_state(self.work, self.identity)
        if found is None:
            return False
        tensors, facts = found
        self.module.load_state_dict(checkpoint.under_prefix("module", tensors))
        checkpoint.unpack_optimizer(self.optimizer, checkpoint.under_prefix("adam", tensors))
        self.best_state = checkpoint.under_prefix("best", tensors)
        torch.set_rng_state(tensors["rng"])
        self.step = facts["step"]
        self.loss_sum, self.loss_count = facts["loss"]
        self.outcome = Outcome(**facts["outcome"])
        self.skip(self.step)
        return True

    def save(self) -> None:
        """Write the state of this moment, to be resumed later."""
        tensors = {
            **checkpoint.with_prefix("module", self.module.state_dict()),
            **checkpoint.with_prefix("adam", checkpoint.pack_optimizer(self.optimizer)),
            **checkpoint.with_prefix("best", self.best_state),
            "rng": torch.get_rng_state(),
        }
        facts = {
            "identity": self.identity,
            "step": self.step,
            "loss": [self.loss_sum, self.loss_count],
            "outcome": asdict(self.outcome),
        }
        checkpoint.save_state(self.work, tensors, facts)

    def run(self, progress: Progress, label: str) -> Outcome:
        """Train to the end and leave the best weights in the module.

        Raises:
            TrainingError: the loss or a weight is not finite, or no batch had a valid pixel.
            KeyboardInterrupt: after the state was saved.
        """
        steps = self.settings.steps
        progress.start(label, steps)
        progress.advance(self.step)
        spent, started, saved = self.outcome.cpu_seconds, time.process_time(), time.monotonic()
        try:
            if self._evaluation_due():  # interrupted in the middle of one
                self._evaluate()
            while self.step < steps:
                with _interrupted_afterwards():
                    self._whole = False
                    self._step()
                    self._whole = True
                self.outcome.cpu_seconds = spent + time.process_time() - started
                if self._evaluation_due():
                    self._evaluate()
                progress.advance(1, **self._shown())
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            if self._whole:
                self.save()
                progress.message(f"Stopped at step {self.step}. Add --resume to go on from there.")
            raise
        progress.finish()
        self.outcome.cpu_seconds = spent + time.process_time() - started
        if self.outcome.skipped_batches == steps:
            raise TrainingError(
                f"{label}: none of {steps} batches had a valid pixel.",
                hint="Check the targets, or use a larger --batch.",
            )
        self.module.load_state_dict(self.best_state)
        self.module.eval()
        return self.outcome

    def _evaluation_due(self) -> bool:
        steps = self.settings.steps
        every = max(1, steps // self.settings.evaluations)
        regular = self.step > 0 and self.step % every == 0 and steps - self.step >= every
        last = self.outcome.curve[-1]["step"] if self.outcome.curve else 0
        return (regular or self.step == steps) and last != self.step

    def _step(self) -> None:
        self.module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = one_cycle(self.step, self.settings.steps, self.settings.lr)
        loss = self.loss()
        self.step += 1
        if loss is None:
            self.outcome.skipped_batches += 1
            return
        value = float(loss.detach())
        if value != value or value in (float("inf"), float("-inf")):
            raise TrainingError(
                f"The training diverged at step {self.step}: the loss is {value}.",
                hint="Try a lower --lr.",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), MAX_GRADIENT)
        self.optimizer.step()
        self.loss_sum += value
        self.loss_count += 1

    def _evaluate(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.module.parameters()):
            raise TrainingError(
                f"The training diverged at step {self.step}: a weight is not finite.",
                hint="Try a lower --lr.",
            )
        figures = self.figures()
        mean_loss = self.loss_sum / self.loss_count if self.loss_count else float("nan")
        self.loss_sum, self.loss_count = 0.0, 0
        self.outcome.curve.append({"step": float(self.step), "loss": mean_loss, **figures})
        if not self.best_state or self.improved(figures):
            self.best_state = copy.deepcopy(self.module.state_dict())
            self.outcome.best, self.outcome.best_step = figures, self.step

    def _shown(self) -> dict[str, float]:
        if not self.outcome.curve:
            return {}
        last = self.outcome.curve[-1]
        return {"loss": last["loss"], **self.headline(last)}


def head_loss(
    task: Task,
    head: Head,
    features: Sequence[Tensor],
    target: Tensor,
    valid: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Weighted sum of the task's loss over everything the head predicts in training.

    Args:
        task: gives the loss.
        head: in training mode.
        features: its inputs.
        target: `(B, …)`.
        valid: `(B, …) bool`.
        size: (H, W) of the images.
    """
    terms = []
    for weight, raw in head.training_outputs(features):
        losses = task.loss(finish(raw, task, size), target, valid)
        terms.append(weight * torch.stack(list(losses.values())).sum())
    return torch.stack(terms).sum()


@contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Let a first Ctrl-C take effect at the end of the block: half a step cannot be resumed.

    A second one takes effect at once. Only the main thread can do this; others do nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    waiting = False

    def later(number: int, frame: FrameType | None) -> None:
        nonlocal waiting
        if waiting:
            raise KeyboardInterrupt
        waiting = True

    signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt
