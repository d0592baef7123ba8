"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

import click

from medusa_core.cli._output import Lenient, clean, print_error, print_warning
from medusa_core.errors import (
    FAILED,
    INTERRUPTED,
    OK,
    TERMINATED,
    MedusaError,
    MedusaWarning,
)


def run(group: click.Group, args: Sequence[str] | None = None) -> int:
    """Run a command line (None: that of the process) and return its exit code."""
    args = list(sys.argv[1:] if args is None else args)
    _replace_closed_streams()
    _tolerate_unprintable()
    try:
        os.getcwd()
    except OSError:  # libraries fail in odd ways there
        print_error("The current folder is not there any more.", "Change to one that is.")
        return FAILED
    with _readers_may_leave(), _terminated_like_interrupted():
        return _run(group, args)


class _Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Schedulers and containers end a process by SIGTERM: like Ctrl-C, it keeps what was done."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before in (None, signal.SIG_IGN):  # not ours to handle
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(group: click.Group, args: list[str]) -> int:
    debug = "--debug" in args or os.environ.get("MEDUSA_DEBUG", "") not in ("", "0")
    try:
        with _warnings_as_lines(debug):
            return _invoke(group, args)
    except _Terminated:
        print_error("Terminated.", prefix="")
        return TERMINATED
    except (KeyboardInterrupt, EOFError, click.Abort):
        print_error("Interrupted.", prefix="")
        return INTERRUPTED
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - this is where every error ends up
        if debug:
            traceback.print_exc()
        return _explain(error, args, debug)


def _invoke(group: click.Group, args: list[str]) -> int:
    """Run a command line; its exit code where nothing was raised."""
    if "_MEDUSA_COMPLETE" in os.environ:
        group.main(args, prog_name="medusa", complete_var="_MEDUSA_COMPLETE")
    try:
        with group.make_context("medusa", args) as context:
            group.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        print_error(f"A plugin or a library tried to end the process with {stop.code!r}.")
        return FAILED
    return OK


def _explain(error: Exception, args: list[str], debug: bool) -> int:
    """Say what happened in one line, and what to do in another."""
    if isinstance(error, MedusaError):
        print_error(error.message, error.hint)
        return error.exit_code
    if _out_of_memory(error):
        print_error("Out of memory.", "Try a smaller --batch or --size.")
        return FAILED
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename is not None else ""
        print_error(f"{error.strerror}{where}.")
        return FAILED
    again = f"medusa --debug {shlex.join(args)}".rstrip()
    print_error(
        f"{type(error).__name__}: {error}",
        None if debug else f"This is unexpected. For details, run: {again}",
    )
    return FAILED


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules:  # do not import it to report an error
        return False
    from medusa_core.model.memory import is_out_of_memory

    return is_out_of_memory(error)


@contextlib.contextmanager
def _warnings_as_lines(debug: bool) -> Iterator[None]:
    """Print our warnings and log as one line each; hide those of libraries unless debugging."""
    with warnings.catch_warnings():
        if not (debug or sys.warnoptions):
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", MedusaWarning)
        default = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: object) -> None:
            if issubclass(category, MedusaWarning):
                print_warning(str(message))
            else:
                default(message, category, *rest)  # type: ignore[arg-type]

        warnings.showwarning = show  # type: ignore[assignment]
        log, lines = logging.getLogger("medusa_core"), _Lines()
        log.addHandler(lines)
        try:
            yield
        finally:
            log.removeHandler(lines)


class _Lines(logging.Handler):
    """Prints what is logged as our warnings are printed."""

    def emit(self, record: logging.LogRecord) -> None:
        print_warning(record.getMessage())


_OF_MEDUSA = {"-q", "--quiet", "--debug"}
"""Options that every command has, before its name."""


def _show(error: click.ClickException) -> None:
    """Print an error of click's, which may quote an argument or the name of a file."""
    text = io.StringIO()
    error.show(text)
    if isinstance(error, click.NoSuchOption) and error.option_name in _OF_MEDUSA:
        text.write(f"Hint: It goes before the command: medusa {error.option_name} …\n")
    if "unexpected extra argument" in text.getvalue() and _takes_names(error):
        text.write("Hint: Several are separated by commas, without spaces.\n")
    click.echo(clean(text.getvalue(), keep="\n"), err=True, nl=False)


def _takes_names(error: click.ClickException) -> bool:
    command = error.ctx.command if isinstance(error, click.UsageError) and error.ctx else None
    return command is not None and any("," in (p.metavar or "") for p in command.params)


def _replace_closed_streams() -> None:
    """Write to nowhere where the caller closed stdout or stderr (`>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open for good


def _tolerate_unprintable() -> None:
    """Write `?` for what the terminal's encoding lacks, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


@contextlib.contextmanager
def _readers_may_leave() -> Iterator[None]:
    """A reader that has seen enough (`| head`) ends no command; nor does a stderr that fails."""
    streams: tuple[Any, Any] = sys.stdout, sys.stderr
    out, err = Lenient(streams[0], BrokenPipeError), Lenient(streams[1], OSError)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        for stream in streams:
            _drop_unwritten(stream)


def _drop_unwritten(stream: TextIO) -> None:
    """Else the interpreter tries again when it ends, and fails."""
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
