"""Where networks compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medusa_core.errors import UsageError


def choose_device(name: str | None) -> str:
    """The device asked for, or a GPU where there is one.

    Raises:
        UsageError: torch cannot use it.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(name).type not in ("cpu", "cuda"):
            raise ValueError("networks and scores are computed on cpu and cuda devices alone.")
        torch.zeros(1, device=name)
    except Exception as err:
        reason = (str(err).splitlines() or [type(err).__name__])[0]
        raise UsageError(f"Device {name!r} cannot be used: {reason}") from err
    return name


@contextmanager
def seeded(device: str | torch.device, seed: int) -> Iterator[None]:
    """Random numbers from a seed, and the former ones again afterwards; other cards stay asleep."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
