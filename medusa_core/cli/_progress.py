"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing with --quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from medusa_core.cli._output import clean
from medusa_core.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

INTERVAL = 5.0
"""Seconds between two lines where there is no terminal."""


def make_progress() -> Progress:
    """The reporter for the command that runs, finished with it however that ends."""
    context = click.get_current_context(silent=True)
    if context is not None and context.find_root().params.get("quiet"):
        return SilentProgress()
    progress: Progress = BarProgress() if sys.stderr.isatty() else LineProgress()
    if context is not None:
        context.call_on_close(progress.finish)
    return progress


class LineProgress:
    """Writes one line every few seconds, and one when a step ends."""

    def __init__(
        self, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval, self._clock = interval, clock
        self._label: str | None = None

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Begin a step."""
        self.finish()
        self._label, self._total, self._done, self._before = clean(label), total, done, done
        self._figures: dict[str, float] = {}
        self._started = self._said = self._clock()

    def advance(self, n: int = 1, **figures: float) -> None:
        """Count units, and say so when the last line is long ago."""
        if self._label is None:
            return
        self._done += n
        self._figures.update(figures)
        now = self._clock()
        if now - self._said >= self._interval:
            self._said = now
            each = (now - self._started) / max(1, self._done - self._before)
            left = each * (self._total - self._done)
            self._say(f", {_duration(left)} left" if left > 0 else "")

    def finish(self) -> None:
        """End the step."""
        if self._label is not None:
            self._say(f" in {_duration(self._clock() - self._started)}")
            self._label = None

    def message(self, text: str) -> None:
        """Write a line."""
        click.echo(clean(text), err=True)

    def _say(self, rest: str) -> None:
        of = f"/{self._total}" if self._total else ""
        shown = _figures(self._figures)
        self.message(f"{self._label}: {self._done}{of}{rest}{'  ' + shown if shown else ''}")


class BarProgress:
    """A bar with the time left. It leaves one line behind for each step."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._bar: Bar | None = None
        self._task: TaskID

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Begin a step."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.finish()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
        )
        self._task = self._bar.add_task(
            clean(label), total=total or None, completed=done, figures=""
        )
        self._bar.start()

    def advance(self, n: int = 1, **figures: float) -> None:
        """Count units."""
        if self._bar is not None:
            self._bar.update(self._task, advance=n)
            if figures:
                self._bar.update(self._task, figures=_figures(figures))

    def finish(self) -> None:
        """End the step."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def message(self, text: str) -> None:
        """Write a line above the bar."""
        self._console.print(clean(text))


def _figures(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
