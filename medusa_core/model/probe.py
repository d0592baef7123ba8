"""A head's output on one fixed image, stored with it, so that `verify` can replay it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.heads.base import Head
from medusa_core.model.images import own_levels
from medusa_core.plugin_host.attribution import head_output
from medusa_core.store.manifest import Probe

PROBE_SIZE = 64
CLOSE = 1e-3
"""Largest difference, relative to the largest value, that another machine may show."""

Verdict = Literal["equal", "close", "different"]


def probe_image() -> Tensor:
    """`(1, 3, 64, 64) float32` in [0, 1]: a fixed pattern of all frequencies, no generator."""
    axis = torch.arange(PROBE_SIZE, dtype=torch.int64)
    y, x, c = axis.view(1, -1, 1), axis.view(1, 1, -1), torch.arange(3).view(-1, 1, 1)
    pattern = (x * x + 3 * y * y + 7 * x * y + 41 * c + (x // 16) * 64 * (y // 16)) % 256
    return (pattern.to(torch.float32) / 255).unsqueeze(0)


_THREADS = threading.RLock()
"""The number of threads is the process's: whoever changes it must be the only one."""


@contextmanager
def one_thread() -> Iterator[None]:
    """The number of threads changes the last bits of a convolution; probes use one."""
    with _THREADS:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@torch.no_grad()
def probe_features(backbone: Backbone) -> list[Tensor]:
    """Feature levels of the probe image, on the CPU, one thread."""
    with one_thread():
        return backbone(probe_image())


@torch.no_grad()
def probe_output(head: Head, features: list[Tensor]) -> Tensor:
    """Raw prediction `(1, C, h, w)` for the probe's features."""
    with one_thread():
        return head_output(head, own_levels(features))


def record(output: Tensor) -> Probe:
    """What is stored: the values, and the machine they were computed on."""
    values = np.ascontiguousarray(output.numpy(), dtype="<f4")
    return Probe(
        shape=tuple(values.shape),
        values=base64.b64encode(values.tobytes()).decode(),
        **machine(),
    )


def machine() -> dict[str, str]:
    """What decides the last bits of a result."""
    return {
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": "cpu",
    }


def compare(stored: Probe, output: Tensor) -> Verdict:
    """Whether a replayed output is that of the record.

    Bits must agree on a machine like the recorded one; elsewhere values must be close.
    """
    values = np.ascontiguousarray(output.numpy(), dtype="<f4")
    try:
        raw = base64.b64decode(stored.values, validate=True)
        before = np.frombuffer(raw, "<f4").reshape(stored.shape)
    except ValueError:
        return "different"
    if before.shape == values.shape and before.tobytes() == values.tobytes():
        return "equal"
    same_machine = machine().items() <= stored.model_dump().items()
    if same_machine or before.shape != values.shape:
        return "different"
    tolerance = CLOSE * max(float(np.abs(before).max(initial=0.0)), 1e-12)
    difference = float(np.abs(before - values).max(initial=0.0))
    return "close" if difference <= tolerance else "different"
