"""Running a plugin's code so that nothing it does goes unattributed or ends up on stdout."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from medusa_core.errors import MedusaError, PluginError
from medusa_core.plugin_host.report import Provider
from medusa_core.problems import problems

FAILURES = (Exception, SystemExit)
"""What a plugin may raise without ending the host."""

SLOW_SECONDS = 5.0
"""A plugin that takes longer to import is named while it still does."""


class _Redirection:
    """Of the process's stdout, from the first that wants it to the last, in whatever threads."""

    def __init__(self) -> None:
        self._lock, self._wanted, self._before = threading.Lock(), 0, sys.stdout

    def begin(self) -> None:
        with self._lock:
            if not self._wanted:
                self._before, sys.stdout = sys.stdout, sys.stderr
            self._wanted += 1

    def end(self) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                sys.stdout = self._before


_REDIRECTION = _Redirection()


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Keep what a plugin prints out of the results."""
    _REDIRECTION.begin()
    try:
        yield
    finally:
        _REDIRECTION.end()


@contextlib.contextmanager
def named_when_slow(provider: Provider) -> Iterator[None]:
    """Say on stderr who it is that everybody waits for."""

    def say() -> None:
        line = (
            f"Plugin {provider.label} is still being imported after {SLOW_SECONDS:g} s. To do "
            f"without it: {provider.without}"
        )
        sys.stderr.write("".join(filter(str.isprintable, line)) + "\n")  # names are hostile, too
        sys.stderr.flush()

    timer = threading.Timer(SLOW_SECONDS, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def attributed(provider: Provider, what: str) -> Iterator[None]:
    """Raise failures again as errors that name the plugin.

    What a plugin says on purpose (a `MedusaError`, such as a file that cannot be read) passes, and
    so do running out of memory and Ctrl-C.

    Args:
        provider: of the code that runs inside.
        what: was being done, such as "the loss of task 'depth'".

    Raises:
        PluginError: the code failed.
    """
    try:
        yield
    except (MedusaError, MemoryError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as err:
        if type(err).__name__ == "OutOfMemoryError":  # torch's, which is too heavy to import here
            raise
        raise PluginError(
            f"Plugin {provider.label} failed in {what}: {describe(err)}.",
            hint="This is for its authors; medusa --debug … shows the traceback. To do without "
            f"it: {provider.without}",
        ) from err


def describe(error: BaseException) -> str:
    """An exception in one line, without a full stop."""
    if isinstance(error, MedusaError):
        return error.message.rstrip(".")
    if isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error.title}: {problems(error)}"
    try:
        text = " ".join(str(error).split()).rstrip(".")
    except Exception:  # noqa: BLE001 - a plugin's exception may fail to tell what it is
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def resolve(reference: str, provider: Provider) -> Any:
    """The object behind an import string of a spec.

    Args:
        reference: `"package.module:attribute"`.
        provider: whom to name when it cannot be imported.

    Raises:
        PluginError: the module cannot be imported or has no such attribute.
    """
    module, _, attribute = reference.partition(":")
    with stdout_to_stderr(), attributed(provider, f"the import of {reference}"):
        return getattr(importlib.import_module(module), attribute)
