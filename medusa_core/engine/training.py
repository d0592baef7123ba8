"""What every training does: steps, evaluations, the best weights, saving and resuming."""

from __future__ import annotations

import copy
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medusa_core import __version__
from medusa_core.api import Task
from medusa_core.engine import checkpoint
from medusa_core.engine.balancing import Balance
from medusa_core.engine.cuda_graphs import Outputs, record
from medusa_core.engine.interrupts import interrupted_afterwards
from medusa_core.engine.means import Means
from medusa_core.engine.outcome import Clock, Outcome, TrainSettings
from medusa_core.engine.precision import Precision
from medusa_core.engine.schedule import one_cycle
from medusa_core.engine.training_log import TrainingLog
from medusa_core.errors import MedusaWarning, StoreError, TrainingError
from medusa_core.model.images import finish, mean_inside
from medusa_core.progress import Progress

SAVE_SECONDS = 30.0
LOG_RECORDS = 200
"""At most about so many records of steps, however long a training is."""


class Training(ABC):
    """One training: its state can be saved after any step and resumed bit-exactly on a CPU."""

    def __init__(
        self,
        module: nn.Module,
        settings: TrainSettings,
        identity: Mapping[str, Any],
        work: Path,
        balance: Balance,
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.module, self.settings, self.work = module.to(self.device), settings, work
        self.balance = balance.to(self.device)
        self.precision = Precision(settings.precision, self.device)
        self.identity = {"medusa": __version__, **asdict(settings), **identity}
        self._trained = [p for p in module.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": self._trained}]
        if any(True for _ in balance.parameters()):
            own = {"params": list(balance.parameters()), "weight_decay": 0.0}
            groups.append({**own, "factor": balance.factor})
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),  # one call instead of ten a parameter
        )
        self.step = 0
        self.resumable = True  # whether its state is kept where it is interrupted
        self.best_state: dict[str, Tensor] = {}
        self.outcome = Outcome()
        self.log = TrainingLog()
        self._means, self._line = Means(), Means()  # since the last evaluation, the last record
        self._whole = True  # not in the middle of a step
        self._resumed = False
        self._states = [checkpoint.BEST]  # files of this training, those to go back to first
        self._to_record = settings.cuda_graphs

    @abstractmethod
    def losses(self) -> dict[str, Tensor]:
        """Unweighted loss of every task with a valid pixel in the batch that its loss is taken on.

        One without a gradient counts as none: tasks may say 0 where there is nothing to learn.
        Networks are run by `predicted`; losses are taken outside of it.
        """

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

    def predicted(
        self, outputs: Outputs, inputs: Sequence[Tensor]
    ) -> dict[str, list[tuple[float, Tensor]]]:
        """Weighted raw predictions of a batch; recorded with the first one, where that is asked."""
        if self._to_record:
            self._to_record = False
            if not record(outputs, inputs):
                warnings.warn(
                    "--cuda-graphs: these networks cannot be recorded, or say something else then. "
                    "They are trained as they are.",
                    MedusaWarning,
                    stacklevel=2,
                )
        with self.precision.predicting():
            return outputs.weighted(inputs)

    def resume(self) -> bool:
        """Take up an unfinished training; False where there is none.

        Raises:
            UsageError: it had other settings, or diverged with this learning rate.
            StoreError: its file is damaged.
        """
        found = checkpoint.load_state(self.work, self.identity)
        if found is None:
            return False
        with checkpoint.sound(self.work / checkpoint.FILE):
            self._take_up(*found)
            self.skip(self.step)
        self._resumed = True
        self._states.append(checkpoint.FILE)
        return True

    def _take_up(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.module.load_state_dict(checkpoint.under_prefix("module", tensors))
        self.balance.load_state_dict(checkpoint.under_prefix("balance", tensors))
        checkpoint.unpack_optimizer(self.optimizer, checkpoint.under_prefix("adam", tensors))
        self.best_state = checkpoint.under_prefix("best", tensors)
        torch.set_rng_state(tensors["rng"])
        self.step = facts["step"]
        if not 0 <= self.step <= self.settings.steps:
            raise ValueError(f"step {self.step} of {self.settings.steps}")
        self._means.restore(facts["means"])
        self._line.restore(facts["line"])
        self.balance.restore(facts["balance"])
        self.precision.restore(facts["precision"])
        self.outcome = Outcome(**facts["outcome"])
        if facts.get("diverged"):
            self.outcome.restarts.append({"step": self.step, "lr": self.settings.lr})

    def save(self, name: str = checkpoint.FILE) -> None:
        """Write the state of this moment, to be resumed later."""
        tensors = {
            **checkpoint.with_prefix("module", self.module.state_dict()),
            **checkpoint.with_prefix("balance", self.balance.state_dict()),
            **checkpoint.with_prefix("adam", checkpoint.pack_optimizer(self.optimizer)),
            **checkpoint.with_prefix("best", self.best_state),
            "rng": torch.get_rng_state(),
        }
        facts = {
            "identity": self.identity,
            "step": self.step,
            "means": self._means.state(),
            "line": self._line.state(),
            "balance": self.balance.state(),
            "precision": self.precision.state(),
            "outcome": asdict(self.outcome),
        }
        checkpoint.save_state(self.work, tensors, facts, name)
        if name not in self._states:
            self._states.append(name)

    def run(self, progress: Progress, label: str, log: TrainingLog | None = None) -> Outcome:
        """Train to the end and leave the best weights in the module.

        Raises:
            TrainingError: a loss or a weight is not finite (then the best state
                is kept, to go on from with a lower learning rate), or no batch had a valid pixel.
            KeyboardInterrupt: after the state was saved.
        """
        self.log = log or TrainingLog()
        if not self._resumed:
            checkpoint.forget_best(self.work)
        self.log.start(self.outcome.log)
        try:
            self._run(progress, label)
        finally:
            self.log.close()
        self._keep(progress)
        self.module.load_state_dict(self.best_state)
        self.module.eval()
        return self.outcome

    def _keep(self, progress: Progress) -> None:
        """Save the finished training: it is not committed yet, and that may fail."""
        try:
            self.save()
        except StoreError as err:
            progress.message(f"The finished training could not be kept for --resume: {err}")

    def _run(self, progress: Progress, label: str) -> None:
        steps = self.settings.steps
        progress.start(label, steps, self.step)
        clock, saved = Clock(self.outcome), time.monotonic()
        try:
            if self._evaluation_due():  # interrupted in the middle of one
                self._evaluate()
            self.module.train()
            while self.step < steps and not self._patience_ended():
                with interrupted_afterwards():
                    self._whole = False
                    self._step()
                    clock.read()
                    self._record_step()
                    self._whole = True
                if self._evaluation_due():
                    self._evaluate()
                    self.module.train()
                progress.advance(1, **self._shown())
                if time.monotonic() - saved > SAVE_SECONDS and self._broken() is None:
                    self.save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            if self.resumable and self._whole and self._broken() is None:
                with interrupted_afterwards():
                    self.save()
                    progress.message(
                        f"Stopped at step {self.step}. Add --resume to go on from there."
                    )
            raise
        progress.finish()
        clock.read()
        if self.step < steps:
            self.outcome.stopped_at = self.step
            progress.message(
                f"{label}: stopped at step {self.step} of {steps}; step {self.outcome.best_step} "
                "was the best."
            )
        elif self.outcome.best_step < self.step:
            progress.message(
                f"{label}: the weights of step {self.outcome.best_step}, the best, are kept."
            )
        if self.outcome.skipped_batches == self.step:
            raise TrainingError(
                f"{label}: none of {self.step} batches had a valid pixel.",
                hint="Check the targets, or use a larger --batch. The losses of some tasks are "
                "taken on every second or fourth row and column alone.",
            )
        self.outcome.balance = self.balance.report()

    def _patience_ended(self) -> bool:
        """A function of the curve alone, so that a resumed training stops where it would have."""
        patience = self.settings.patience
        since = [point for point in self.outcome.curve if point["step"] > self.outcome.best_step]
        return patience is not None and len(since) >= patience

    def _evaluation_due(self) -> bool:
        steps = self.settings.steps
        every = max(1, steps // self.settings.evaluations)
        regular = self.step > 0 and self.step % every == 0 and steps - self.step >= every
        last = self.outcome.curve[-1]["step"] if self.outcome.curve else 0
        return (regular or self.step == steps) and last != self.step

    def _step(self) -> None:
        lr = one_cycle(self.step, self.settings.steps, self.settings.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("factor", 1.0)
        losses = {name: loss for name, loss in self.losses().items() if loss.requires_grad}
        self.step += 1
        if not losses:
            self.outcome.skipped_batches += 1
            self.balance.observe({})
            return
        total = self.balance(losses)
        first, *rest = torch.stack([x.detach().float() for x in (total, *losses.values())]).tolist()
        values = dict(zip(losses, rest, strict=True))
        self._require_finite(first, values)
        self.precision.backward_and_step(total, self.optimizer, self._trained)
        self.balance.observe(values)
        for means in (self._means, self._line):
            means.add({"loss": first, **{f"loss.{name}": v for name, v in values.items()}})

    def _require_finite(self, total: float, losses: Mapping[str, float]) -> None:
        bad = [f"the loss of {n} is {v}" for n, v in losses.items() if not math.isfinite(v)]
        if not bad and not math.isfinite(total):
            bad = [f"the sum of the losses is {total}"]
        if bad and self.step == 1:
            raise self._diverged(", ".join(bad), "Nothing was learned yet: check loss and targets.")
        if bad:
            raise self._diverged(", ".join(bad))

    def _evaluate(self) -> None:
        broken = self._broken()
        if broken is not None:
            raise self._diverged(f"a weight is not finite ({broken})")
        figures = self.figures()
        with interrupted_afterwards():
            self._note(figures)

    def _note(self, figures: dict[str, float]) -> None:
        """Put an evaluation down, and its weights where they are the best."""
        means = self._means.take()
        mean_loss = means.pop("loss", math.nan)
        parts = means if len(self.balance.weights()) > 1 else {}
        self.outcome.curve.append({"step": float(self.step), "loss": mean_loss, **parts, **figures})
        if not self.outcome.curve[1:]:
            self._tell_unmeasured(figures)
        best = not self.best_state or self.improved(figures)
        if best:
            self.best_state = copy.deepcopy(self.module.state_dict())
            self.outcome.best, self.outcome.best_step = figures, self.step
        self._record("evaluation", {"loss": mean_loss, **means}, figures=figures, best=best)
        if best:
            self.save(checkpoint.BEST)

    def _tell_unmeasured(self, figures: Mapping[str, float]) -> None:
        for name in (name for name, value in self.headline(figures).items() if math.isnan(value)):
            warnings.warn(
                f"{name} cannot be measured: the images that weights are chosen by have nothing to "
                "compare with. Are their targets decoded as they should be?",
                MedusaWarning,
                stacklevel=2,
            )

    def _record_step(self) -> None:
        every = max(1, self.settings.steps // LOG_RECORDS)
        if self.step % every == 0 and self._line.sums:
            self._record("step", self._line.take())

    def _record(self, event: str, means: Mapping[str, float], **more: Any) -> None:
        record = {
            "event": event,
            "step": self.step,
            "seconds": round(self.outcome.seconds, 2),
            "loss": means["loss"],
            "losses": {k.removeprefix("loss."): v for k, v in means.items() if k != "loss"},
            "lr": self.optimizer.param_groups[0]["lr"],
            "weights": self.balance.weights(),
            **more,
        }
        self.outcome.log.append(record)
        self.log.write(record)

    def _broken(self) -> str | None:
        """Name of a weight that is not finite."""
        named = self.module.named_parameters()
        return next((name for name, p in named if not bool(torch.isfinite(p).all())), None)

    def _diverged(self, what: str, hint: str = "Start again with a lower --lr.") -> TrainingError:
        kept = checkpoint.go_back(self.work, self._states, self.step, self.settings.lr, what)
        if kept is not None:
            hint = (
                f"The state of step {kept}, the best so far, is kept. Go on from there with a "
                f"lower --lr: --resume --lr {checkpoint.lower(self.settings.lr):g}"
            )
        return TrainingError(f"The training diverged at step {self.step}: {what}.", hint)

    def _shown(self) -> dict[str, float]:
        shown = {"loss": self.outcome.log[-1]["loss"]} if self.outcome.log else {}
        return shown | (self.headline(self.outcome.curve[-1]) if self.outcome.curve else {})


def outputs_loss(
    task: Task,
    outputs: Sequence[tuple[float, Tensor]],
    target: Tensor,
    valid: Tensor,
) -> Tensor:
    """Weighted sum, in float32, of the task's loss over everything predicted in training.

    It is taken on every `loss_stride`-th pixel of the task, in both directions.

    Args:
        task: gives the loss.
        outputs: (weight, raw prediction) pairs.
        target: `(B, …)`.
        valid: `(B, H, W) bool`.
    """
    stride = _loss_stride(task)
    if task.spec.output.kind == "dense":
        target = target[..., ::stride, ::stride]
    terms = []
    for weight, raw in outputs:
        prediction, counts = as_judged(raw.float(), task, valid, stride)
        losses = task.loss(prediction, target, counts)
        terms.append(weight * torch.stack(list(losses.values())).sum())
    return torch.stack(terms).sum()


def has_loss(task: Task, valid: Tensor) -> bool:
    """Whether a pixel of a `(B, H, W) bool` mask is among those that the loss is taken on."""
    stride = _loss_stride(task)
    taken = valid[..., ::stride, ::stride]
    # NumPy stops at the first; PyTorch looks at every pixel.
    return bool((taken.numpy() if taken.device.type == "cpu" else taken).any())


def _loss_stride(task: Task) -> int:
    return task.spec.loss_stride if task.spec.output.kind == "dense" else 1


def as_judged(raw: Tensor, task: Task, valid: Tensor, stride: int = 1) -> tuple[Tensor, Tensor]:
    """A head's output and a cached mask as losses and metrics take them.

    For a global task the mean over the picture and `(B,) bool`, as `predict` gives them: padding
    does not count.

    Args:
        raw: `(B, C, h, w)`.
        task: whose output it is.
        valid: `(B, H, W) bool`.
        stride: see `finish`.
    """
    if task.spec.output.kind == "global":
        return mean_inside(raw, valid), valid.flatten(1).any(dim=1)
    size = (valid.shape[1], valid.shape[2])
    return finish(raw, task, size, stride), valid[..., ::stride, ::stride]
