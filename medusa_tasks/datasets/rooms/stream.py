"""Random numbers that are the same on every machine and numpy version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_BLOCK = 512
_UNIT = 1.0 / 9007199254740992.0  # 2**-53


def derive_seed(*parts: str | int) -> int:
    """A 128-bit seed from any names and numbers; different parts give independent streams."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


class Stream:
    """Draws from the raw 64-bit output of PCG64 (numpy's Generator streams may change)."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)
        self._block: list[int] = []

    def _raw(self) -> int:
        if not self._block:
            self._block = self._bits.random_raw(_BLOCK).tolist()
            self._block.reverse()
        return self._block.pop()

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return (self._raw() >> 11) * _UNIT

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """Uniform in low … high, both included."""
        return low + (self._raw() >> 16) % (high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self.unit() < probability

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[self.integer(0, len(items) - 1)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order."""
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = self.integer(0, i)
            result[i], result[j] = result[j], result[i]
        return result
