"""How the losses of several tasks become one: fixed weights, learned uncertainty, or DWA."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medusa_core.engine.means import Means
from medusa_core.errors import UsageError

BALANCES = ("fixed", "uncertainty", "dwa")
DWA_TEMPERATURE = 2.0


class Balance(nn.Module):
    """Sums the losses of the tasks that a batch has; an absent task changes nothing.

    `factor` of the learning rate is that of the parameters, where there are any: Adam moves a
    scalar by about the learning rate a step, and log-variances have a way of several units to go.
    """

    name: str
    factor = 10.0

    @abstractmethod
    def weights(self) -> dict[str, float]:
        """What the loss of each task is multiplied with now."""

    @abstractmethod
    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """One loss from those of the present tasks (at least one)."""

    def observe(self, losses: Mapping[str, float]) -> None:
        """Take note of the losses of a step that was made; empty where no task was present."""

    def report(self) -> dict[str, Any]:
        """What a record of the training says about it."""
        return {"method": self.name, "weights": self.weights()}

    def state(self) -> dict[str, Any]:
        """JSON-able state besides parameters."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""


class Fixed(Balance):
    """Σ w_t · L_t with the weights of the task specs."""

    name = "fixed"

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.fixed = dict(weights)

    def weights(self) -> dict[str, float]:
        """The weights of the specs."""
        return dict(self.fixed)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([self.fixed[name] * loss for name, loss in losses.items()]).sum()


class Uncertainty(Balance):
    """Σ ½·exp(−s_t)·L_t + ½·s_t with a learned log-variance s_t a task.

    After Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses" (CVPR
    2018), their form for regression, used for every task. Its optimum is s_t = log L_t, where the
    weight is 1 / (2 L_t); their form for classification, without the first ½, has the same weight
    at its optimum. It replaces the fixed weights, as in the paper: a constant factor of a loss
    would move s_t and nothing else.
    """

    name = "uncertainty"

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.order = list(names)
        self.log_variances = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in self.order])

    def _of(self, name: str) -> Tensor:
        return self.log_variances[self.order.index(name)]

    def weights(self) -> dict[str, float]:
        """½·exp(−s_t)."""
        return {name: 0.5 * math.exp(-float(self._of(name).detach())) for name in self.order}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The regularised sum; s_t of absent tasks get no gradient, so no optimizer moves them."""
        terms = []
        for name, loss in losses.items():
            s = self._of(name)
            terms.append(0.5 * torch.exp(-s) * loss + 0.5 * s)
        return torch.stack(terms).sum()

    def report(self) -> dict[str, Any]:
        """With the log-variances."""
        found = {name: float(self._of(name).detach()) for name in self.order}
        return {**super().report(), "log_variances": found}


class DynamicAverage(Balance):
    """Σ λ_t · w_t · L_t, where tasks whose loss falls slower get a larger λ_t.

    λ_t = T · softmax_t(r_t / 2) with r_t = L_t(period − 1) / L_t(period − 2), the mean losses of
    the two epochs before; 1 during the first two. After Liu, Johns and Davison, "End-to-End
    Multi-Task Learning with Attention" (CVPR 2019). It multiplies the fixed weights w_t: ratios say
    nothing about magnitudes, which must be brought to one level beforehand (Vandenhende et al.,
    "Multi-Task Learning for Dense Prediction Tasks: A Survey", 2021).

    Args:
        weights: fixed weight of every task.
        period: steps an epoch.
    """

    name = "dwa"

    def __init__(self, weights: Mapping[str, float], period: int) -> None:
        super().__init__()
        self.fixed, self.period = dict(weights), period
        self.steps = 0
        self.means = Means()
        self.past: dict[str, list[float]] = {name: [] for name in weights}

    def multipliers(self) -> dict[str, float]:
        """λ_t of every task; they sum to the number of tasks."""
        ratios = {}
        for name, past in self.past.items():
            known = len(past) == 2 and past[0] > 0
            ratios[name] = (past[1] / past[0] if known else 1.0) / DWA_TEMPERATURE
        top = max(ratios.values())  # against overflow
        powers = {name: math.exp(ratio - top) for name, ratio in ratios.items()}
        return {name: len(powers) * power / sum(powers.values()) for name, power in powers.items()}

    def weights(self) -> dict[str, float]:
        """λ_t · w_t."""
        return {name: value * self.fixed[name] for name, value in self.multipliers().items()}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weights = self.weights()
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def observe(self, losses: Mapping[str, float]) -> None:
        """Average over an epoch; a task that a whole epoch lacks keeps its ratio."""
        self.means.add(losses)
        self.steps += 1
        if self.steps % self.period == 0:
            for name, value in self.means.take().items():
                self.past[name] = [*self.past[name], value][-2:]

    def report(self) -> dict[str, Any]:
        """With the multipliers on top of the fixed weights."""
        return {**super().report(), "multipliers": self.multipliers()}

    def state(self) -> dict[str, Any]:
        """Steps seen, running means, and the last two means of every task."""
        return {"steps": self.steps, "means": self.means.state(), "past": self.past}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.steps = state["steps"]
        self.means.restore(state["means"])
        self.past = {name: list(state["past"][name]) for name in self.past}


def make_balance(name: str, weights: Mapping[str, float], period: int) -> Balance:
    """The balance of that name.

    Args:
        name: one of `BALANCES`.
        weights: fixed weight of every task.
        period: steps an epoch.

    Raises:
        UsageError: no such balance.
    """
    check_balance(name)
    if name == "uncertainty":
        return Uncertainty(weights)
    if name == "dwa":
        return DynamicAverage(weights, period)
    return Fixed(weights)


def check_balance(name: str) -> None:
    """Refuse an unknown name.

    Raises:
        UsageError: it is none of `BALANCES`.
    """
    if name not in BALANCES:
        raise UsageError(f"--balance {name}: one of {', '.join(BALANCES)} is needed.")
