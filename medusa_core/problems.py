"""What pydantic finds wrong, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

_SHOWN = 8


def problems(error: ValidationError, prefix: str = "", whole: str = "") -> str:
    """What is wrong with some fields, in one line.

    Args:
        error: its first problems are told.
        prefix: put before the names of fields.
        whole: what to name where it is no field.
    """
    lines = []
    for problem in error.errors()[:_SHOWN]:
        field = ".".join(map(str, problem["loc"]))
        named = f"{prefix}{field}" if field else whole
        lines.append(f"{named}: {problem['msg']}" if named else problem["msg"])
    return "; ".join(lines)
