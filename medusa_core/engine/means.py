"""Running means of named figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Means:
    """Means since the last `take`; a figure that is missing at times is averaged where it is."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Count one more value of each figure."""
        for name, value in values.items():
            found = self.sums.setdefault(name, [0.0, 0])
            found[0] += value
            found[1] += 1

    def take(self) -> dict[str, float]:
        """The means, in the order in which figures first came; then start anew."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means

    def state(self) -> dict[str, Any]:
        """JSON-able state."""
        return {name: list(found) for name, found in self.sums.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self.sums = {name: list(found) for name, found in state.items()}
