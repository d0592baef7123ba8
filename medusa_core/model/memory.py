"""Running out of memory, which libraries report in several ways."""

from __future__ import annotations

import torch

from medusa_core.errors import PluginError


def is_out_of_memory(error: BaseException | None) -> bool:
    """Torch has a class of its own on GPUs, and a plain RuntimeError on CPUs.

    So is what a plugin is blamed for when it happens to run its code.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, PluginError):
        return is_out_of_memory(error.__cause__)
    said = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in said or "can't allocate memory" in said
    )
