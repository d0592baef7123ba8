"""Packages that come with an extra: `pip install 'medusa-heads[EXTRA]'`."""

from __future__ import annotations

import importlib
from typing import Any

from medusa_core.errors import UsageError


def require_extra(extra: str, what: str, *modules: str) -> Any:
    """Import what an extra brings.

    Args:
        extra: its name.
        what: needs it, in words that "needs a package …" follows.
        modules: to be imported.

    Returns:
        The first of them.

    Raises:
        UsageError: one cannot be imported; the hint is the pip line.
    """
    try:
        first, *_ = [importlib.import_module(name) for name in modules]
    except ImportError as err:
        raise UsageError(
            f"{what} needs a package that is not installed: {err}.",
            hint=f"pip install 'medusa-heads[{extra}]'",
        ) from err
    return first
