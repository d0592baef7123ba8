"""`medusa verify`: is this model folder what it promises to be?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medusa_core.model.verification import verify_folder
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.store import commit


def verify(
    model: str | Path = "medusa-model", *, repair: bool = False, host: Host | None = None
) -> dict[str, Any]:
    """Re-hash every file and replay every head's probe.

    Args:
        model: the model folder.
        repair: first delete what interrupted changes have left. Nothing else is ever deleted: not
            what `model.json` names, be it damaged, and no file that is not Medusa's.
        host: None: the installed plugins.

    Returns:
        `ok`, `problems`, a verdict on the probe of each head, and what was `removed`.

    Raises:
        StoreError: there is no model folder, or `model.json` cannot be read; with `repair` also
            where it is damaged, or something cannot be deleted.
    """
    removed = commit.repair(model) if repair else []
    report = verify_folder(Path(model), host or default_host())
    return {**report, "removed": [str(path) for path in removed]}
