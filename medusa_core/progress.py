"""How long steps report: the protocol the engine talks to, and the reporter that says nothing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Follows one step after another. Reporting never changes what is computed."""

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Begin a step of `total` units (0: unknown), finishing the one before.

        `done` of them were done in an earlier run: the time left is not judged by them.
        """

    def advance(self, n: int = 1, **figures: float) -> None:
        """Count `n` more units done. `figures` are shown beside them (`loss=0.3`)."""

    def finish(self) -> None:
        """End the step. Calling it again does nothing."""

    def message(self, text: str) -> None:
        """Say something people should read, whether or not a step is under way."""


class SilentProgress:
    """Reports nothing: the default in Python, and what `--quiet` uses."""

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, n: int = 1, **figures: float) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""
