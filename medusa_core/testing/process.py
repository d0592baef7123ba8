"""What a whole process shares: sources of random numbers, and settings of torch and numpy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def _use_onednn(enabled: bool) -> None:
    torch.backends.mkldnn.enabled = enabled  # type: ignore[assignment]


_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, torch.set_default_device),
    "whether torch records gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's deterministic mode": (
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "whether torch uses oneDNN": (lambda: torch.backends.mkldnn.enabled, _use_onednn),
    "what numpy does about errors": (np.geterr, lambda modes: np.seterr(**modes)),
}


def settings() -> dict[str, Any]:
    """Each setting, by what it is."""
    return {name: get() for name, (get, _) in _SETTINGS.items()}


def seed_all(seed: int) -> None:
    """Start every source of random numbers."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def sources() -> dict[str, object]:
    """Where each source of random numbers stands, by its name."""
    of_numpy = np.random.get_state(legacy=False)["state"]
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (of_numpy["key"].tolist(), of_numpy["pos"]),
        "random": random.getstate(),
    }


@contextmanager
def process_kept() -> Iterator[None]:
    """Whatever happens inside, settings and random numbers are afterwards what they were."""
    before = settings()
    drawn = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        for name, value in settings().items():
            if value != before[name]:
                _SETTINGS[name][1](before[name])
        torch.set_rng_state(drawn[0])
        np.random.set_state(drawn[1])
        random.setstate(drawn[2])
