import io
import sys
from itertools import pairwise

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from medusa_core.cli import medusa
from medusa_core.cli._progress import BarProgress, LineProgress, make_progress
from medusa_core.progress import SilentProgress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def bar():
    return BarProgress(Console(file=io.StringIO(), force_terminal=True, width=120))


@pytest.mark.parametrize("make", [SilentProgress, LineProgress, bar])
def test_any_order_of_calls_is_harmless(make):
    progress = make()
    progress.finish()
    progress.advance(3, loss=1.0)
    progress.message("hello")
    progress.start("one", 3)
    progress.advance()
    progress.start("two", 0)
    progress.advance(2, loss=0.5)
    progress.message("[bold]still going[/bold]")
    progress.finish()
    progress.finish()


def test_lines_come_now_and_then_and_at_the_end(capsys):
    clock = Clock()
    progress = LineProgress(interval=5, clock=clock)
    progress.start("training", 100)
    for _ in range(50):
        clock.now += 1
        progress.advance(2, loss=0.25)
    progress.finish()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[0] == "training: 10/100, 0:00:45 left  loss 0.25"
    assert lines[-1] == "training: 100/100 in 0:00:50  loss 0.25"


def test_the_time_left_is_not_judged_by_what_an_earlier_run_has_done(capsys):
    clock = Clock()
    progress = LineProgress(interval=5, clock=clock)
    progress.start("training", 100, done=80)
    clock.now += 10
    progress.advance(5)
    assert capsys.readouterr().err.splitlines() == ["training: 85/100, 0:00:30 left"]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 3)), max_size=30), st.integers(0, 50))
def test_lines_never_come_faster_than_the_interval(steps, total):
    clock, said = Clock(), []
    progress = LineProgress(interval=5, clock=clock)
    progress.message = lambda text: said.append((clock.now, text))
    progress.start("x", total)
    for n, seconds in steps:
        clock.now += seconds
        progress.advance(n)
    gaps = [b - a for (a, _), (b, _) in pairwise([(0.0, ""), *said])]
    assert all(gap >= 5 for gap in gaps)
    progress.finish()
    done = sum(n for n, _ in steps)
    assert said[-1][1].startswith(f"x: {done}/{total} in" if total else f"x: {done} in")


def test_the_bar_shows_label_count_and_figures():
    progress = bar()
    progress.start("training", 4)
    progress.advance(4, loss=0.125)
    progress.finish()
    shown = progress._console.file.getvalue()
    for text in ("training", "4/4", "loss 0.125"):
        assert text in shown
    assert "\x1b[?25h" in shown  # the cursor is back


def reporter(monkeypatch, *flags):
    made = []

    @click.command("tasks")
    def command():
        made.append(make_progress())
        made[0].start("x", 2)
        raise RuntimeError

    monkeypatch.setattr(type(medusa), "get_command", lambda *_: command)
    result = CliRunner().invoke(medusa, [*flags, "tasks"])
    assert result.stdout == ""
    return made[0], result.stderr


def test_a_reporter_ends_with_its_command_however_that_ends(monkeypatch):
    progress, shown = reporter(monkeypatch)
    assert isinstance(progress, LineProgress)
    assert shown.startswith("x: 0/2 in")


def test_quiet_is_silent(monkeypatch):
    progress, shown = reporter(monkeypatch, "--quiet")
    assert isinstance(progress, SilentProgress)
    assert shown == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(make_progress(), BarProgress)
