"""Names as people give them to functions: one, or several."""

from __future__ import annotations

from collections.abc import Iterable


def as_names(names: str | Iterable[str]) -> list[str]:
    """Each name once, in order; a string is one name, not its letters."""
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))
