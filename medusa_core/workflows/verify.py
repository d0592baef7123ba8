"""`medusa verify`: is this model folder what it promises to be?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medusa_core.model.verification import verify_folder
from medusa_core.plugin_host.host import Host, default_host


def verify(model: str | Path = "medusa-model", host: Host | None = None) -> dict[str, Any]:
    """Re-hash every file and replay every head's probe.

    Returns:
        `ok`, `problems`, and a verdict on the probe of each head.

    Raises:
        StoreError: there is no model folder, or `model.json` cannot be read.
    """
    return verify_folder(Path(model), host or default_host())
