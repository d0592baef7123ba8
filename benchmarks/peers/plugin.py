"""Registers the per-task peers as any plugin would, so that every workflow can train them."""

from medusa_core.api import HeadSpec, hookimpl

_HEADS = {
    "plain": (
        "HRNet's head: 1×1 on the concatenated levels, 1×1 to the outputs",
        "heads:PlainHead",
    ),
    "mtinet_task": (
        "MTI-Net's decoder for one task: top-down BasicBlocks under HRNet's head",
        "heads:MTINetTaskHead",
    ),
    "fpn": ("Feature pyramid: one width, top-down sum, sum of levels", "fusions:FPNHead"),
    "dpt": ("Refine, add, refine again, from the coarsest level up", "fusions:DPTHead"),
    "tokens": ("Learned queries gather from all levels and write back", "fusions:TokenHead"),
}


@hookimpl
def medusa_register_heads() -> list[HeadSpec]:
    """Per-task heads to compare the default one with."""
    return [
        HeadSpec(
            name=name,
            title=title,
            implementation=f"benchmarks.peers.{place}",
            config_model="benchmarks.peers.configs:PeerConfig",
        )
        for name, (title, place) in _HEADS.items()
    ]
