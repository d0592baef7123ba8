"""A head architecture tried once before it is trained: what would fail only after hours of work."""

from __future__ import annotations

import torch
from torch import Tensor

from medusa_core.api import FeatureInfo, HeadRef
from medusa_core.model import costs
from medusa_core.model.assembly import make_head
from medusa_core.model.probe import PROBE_SIZE, probe_output
from medusa_core.plugin_host.attribution import running, training_outputs
from medusa_core.plugin_host.host import Host


def try_head(
    host: Host,
    ref: HeadRef,
    features: FeatureInfo,
    out_channels: int,
    distribution: str | None = None,
) -> None:
    """Build a head twice and run it; neither it nor the generators of random numbers are left.

    Args:
        host: knows the architecture.
        ref: its name and settings.
        features: of the backbone.
        out_channels: of the task.
        distribution: whose architecture is meant; None: the only one of that name.

    Raises:
        PluginError: it fails, its costs cannot be counted, it cannot learn, or what it computes is
            not decided by its parameters and buffers, which alone are stored.
    """
    levels = _noise(features)
    with torch.random.fork_rng(devices=[]):
        first, second = (
            make_head(host, ref, features, out_channels, distribution) for _ in range(2)
        )
        with running(first, "forward"):
            costs.head_gmacs(first, features)
            _require_gradient(first, [level.repeat(2, 1, 1, 1) for level in levels])
            second.load_state_dict(first.state_dict())
            outputs = [probe_output(head.eval(), levels) for head in (first, second)]
            if not torch.equal(*outputs) and not any(bool(o.isnan().any()) for o in outputs):
                raise TypeError(
                    "equal weights give other results: all that it computes with must be "
                    "parameters or buffers (modules in a plain list are neither), and evaluation "
                    "leaves nothing to chance"
                )


def _noise(features: FeatureInfo) -> list[Tensor]:
    """Levels of a small image, the same every time; a backbone that is to be trained is not run."""
    generator = torch.Generator().manual_seed(0)
    shapes = features.shapes((PROBE_SIZE, PROBE_SIZE))
    return [torch.randn(1, *shape, generator=generator) for shape in shapes]


def _require_gradient(head: torch.nn.Module, levels: list[Tensor]) -> None:
    if not any(p.requires_grad for p in head.parameters()):
        raise TypeError("it has no parameters to train: modules in a plain list are not found")
    outputs = [raw for _, raw in training_outputs(head.train(), levels)]  # type: ignore[arg-type]
    if not any(raw.requires_grad for raw in outputs):
        raise TypeError("its output has no gradient")
