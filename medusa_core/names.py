"""Names as people give them to functions, one or several, and as they are told to people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def as_names(names: str | Iterable[str]) -> list[str]:
    """Each name once, in order; a string is one name, not its letters."""
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def some(names: Sequence[str], shown: int = 20) -> str:
    """Names in a line: the first ones where they are many."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def shortened(text: object, most: int = 200) -> str:
    """Text from outside for a line, which it must not flood."""
    line = str(text)
    return line if len(line) <= most else f"{line[:most]}… ({len(line)} characters)"
