"""Settings of the per-task peers: none, they are what their papers say. Pydantic only."""

from __future__ import annotations

from medusa_core.heads.configs import HeadConfig


class PeerConfig(HeadConfig):
    """`plain` and `mtinet_task` have nothing to set."""
