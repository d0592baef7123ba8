"""Running a plugin's code so that nothing it does goes unattributed or ends up on stdout."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from medusa_core.errors import MedusaError, PluginError
from medusa_core.plugin_host.report import Provider

FAILURES = (Exception, SystemExit)
"""What the import or a hook of a plugin may raise without ending the host."""


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Keep what a plugin prints out of the results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def describe(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
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
    try:
        with stdout_to_stderr():
            return getattr(importlib.import_module(module), attribute)
    except MedusaError:
        raise
    except FAILURES as error:
        raise PluginError(
            f"Plugin {provider} cannot provide {reference}: {describe(error)}.",
            hint=f"Install it again: pip install --force-reinstall {provider.distribution}",
        ) from error
