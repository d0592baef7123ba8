"""What goes to stdout (the result, once) and to stderr (errors and warnings)."""

from __future__ import annotations

import contextlib
import dataclasses
import json as jsonlib
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from medusa_core.errors import MedusaError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = 1
SHOWN = 5
"""Of a list of names on one line; `--json` has more."""

_results: TextIO | None = None
"""Where `emit` writes while a command runs; None: to stdout."""


class Lenient:
    """A stream that may fail in one way, which ends nothing: what is written then is lost."""

    def __init__(self, stream: TextIO, failure: type[OSError]) -> None:
        self._stream, self._failure = stream, failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or do not."""
        with contextlib.suppress(self._failure):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or do not."""
        with contextlib.suppress(self._failure):
            self._stream.flush()


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """While a command runs, `emit` alone writes to stdout; what all others print goes to stderr.

    Where stdout is that of the process, this holds for compiled libraries and child processes too.
    """
    global _results
    before, stdout = _results, sys.stdout
    with contextlib.ExitStack() as stack:
        _results = stack.enter_context(_file_of_its_own(stdout)) or stdout
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        try:
            yield
        finally:
            _results = before


@contextlib.contextmanager
def _file_of_its_own(stdout: TextIO) -> Iterator[TextIO | None]:
    """A copy of the process's stdout, whose number then stands for stderr; None for any other."""
    try:
        number, errors = stdout.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # captured, or closed
        number = errors = -1
    if number != 1 or errors < 0:
        yield None
        return
    stdout.flush()
    copy = os.dup(number)
    os.dup2(errors, number)
    file = open(copy, "w", encoding=stdout.encoding, errors="replace")  # noqa: SIM115
    results = cast("TextIO", Lenient(file, BrokenPipeError))
    try:
        yield results
        results.flush()
    finally:
        os.dup2(copy, number)
        with contextlib.suppress(OSError):  # told before: the reader is gone, the disk is full
            results.close()


def _stdout() -> TextIO:
    return _results or sys.stdout


def emit(
    result: Mapping[str, Any], json: bool, human: Callable[[Console], object] | None = None
) -> None:
    """Write the result of a command to stdout.

    Args:
        result: what `--json` prints, without `schema_version`.
        json: whether to print one JSON document.
        human: prints for people otherwise; it gets a rich console on stdout.

    Raises:
        MedusaError: stdout cannot be written to.
    """
    try:
        if json:
            document = jsonable({"schema_version": SCHEMA_VERSION, **result})
            text = jsonlib.dumps(document, indent=2, sort_keys=True, allow_nan=False)
            click.echo(text, file=_stdout())
        elif human is not None:
            human(stdout_console())
        _stdout().flush()
    except OSError as err:
        raise MedusaError(
            f"What was done could not be written to stdout: {err.strerror}.",
            hint="What the command did stays done.",
        ) from err


def jsonable(value: Any) -> Any:
    """A value as JSON knows it: no NaN (null), no models, paths, tuples or array scalars."""
    if value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Enum):
        return jsonable(value.value)
    if isinstance(value, PathLike):
        return fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return jsonable(value.model_dump())
    if isinstance(value, Mapping):
        return {str(jsonable(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((jsonable(item) for item in value), key=repr)
    if isinstance(value, Iterable) and not hasattr(value, "tolist"):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and torch, scalars included
        return jsonable(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def clean(text: object, keep: str = "") -> str:
    """Text without control characters, which could steer a terminal; `keep` are let through.

    Without line ends, text from outside cannot look like another line of ours.
    """
    line = str(text) if "\n" in keep else str(text).replace("\n", " ")
    return "".join(c for c in line if c.isprintable() or c in keep)


def stdout_console() -> Console:
    """A rich console for results; it takes text literally and wraps for terminals only.

    Text loses its control characters here, whoever prints it.
    """
    from rich.console import Console

    class CleanConsole(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(clean(o) if isinstance(o, str) else o for o in objects), **options)

    wide = None if _stdout().isatty() else 1000
    return CleanConsole(
        file=_stdout(), width=wide, markup=False, highlight=False, emoji=False, soft_wrap=False
    )


def count(number: float) -> str:
    """A large number for people: `3.86 M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:  # or it would be rounded to 1e+03 of the next
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def figure(name: str, value: float | None, unit: str | None = None) -> str:
    """A metric for people: `rmse 0.5 m`, and a dash where nothing was measured."""
    shown = "–" if value is None or math.isnan(value) else f"{value:.4g}"
    return " ".join(filter(None, (name, shown, unit if unit != name else None)))


def skipped_line(skipped: Mapping[str, Any]) -> str:
    """Samples that were skipped, for people: their number and the first of them."""
    named = list(skipped["samples"])
    more = skipped["count"] - len(named[:SHOWN])
    shown = ", ".join(named[:SHOWN]) + (f" and {more} more" if more else "")
    samples = "sample" if skipped["count"] == 1 else "samples"
    return f"Skipped: {skipped['count']} {samples} that cannot be used ({shown})"


def next_line(*words: object, data: Iterable[str] = ()) -> str:
    """What to type next, fit for a shell.

    Args:
        words: those of the command after `medusa`.
        data: what `--data` named, since without it commands go to `rooms`.
    """
    options = [word for name in data for word in ("--data", name)]
    return f"Next: {shlex.join(map(str, ('medusa', *words, *options)))}"


def confirm(question: str, yes: bool) -> None:
    """Go on only with the user's consent.

    Args:
        question: what will happen, ending in a question mark.
        yes: whether `--yes` was given.

    Raises:
        UsageError: there is nobody to ask.
        click.Abort: the answer is no.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            f"{question} There is no terminal to ask at.", hint="Add --yes to go on unasked."
        )
    click.confirm(clean(question), abort=True, err=True)


def print_error(message: str, hint: str | None = None, prefix: str = "Error: ") -> None:
    """Write an error and what to do about it to stderr."""
    click.echo(clean(f"{prefix}{message}"), err=True)
    if hint:
        click.echo(clean(f"Hint: {hint}"), err=True)


def print_warning(message: str) -> None:
    """Write one line to stderr."""
    click.echo(clean(f"Warning: {message}"), err=True)
