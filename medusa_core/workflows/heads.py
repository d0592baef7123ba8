"""`medusa remove-task` and `medusa rename-head`. No torch: both only change the folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medusa_core.api import HeadRemoved
from medusa_core.names import as_names
from medusa_core.plugin_host.host import Host, default_host
from medusa_core.store import commit, files, records
from medusa_core.store.layout import Layout, unknown_head


def remove_task(
    names: str | Iterable[str],
    *,
    model: str | Path = "medusa-model",
    dry_run: bool = False,
    host: Host | None = None,
) -> dict[str, Any]:
    """Remove heads from a model folder; the others are not touched. Observers are told.

    Args:
        names: of heads, damaged ones included.
        model: the model folder.
        dry_run: check everything, remove nothing.
        host: tells the observers; None: the installed plugins.

    Returns:
        The heads removed and the bytes freed.

    Raises:
        UnknownNameError: a head does not exist; then nothing is removed.
    """
    host, names = host or default_host(), as_names(names)
    layout = Layout(Path(model))
    heads = records.read_model(layout).heads  # not their files: damaged heads can be removed too
    for name in names:
        if name not in heads:
            raise unknown_head(name, heads)
    sizes = [files.size(layout.head_weights(name, heads[name])) for name in names]
    remaining = [name for name in heads if name not in names]
    if not dry_run:
        commit.remove_heads(model, names)
        for name in names:
            host.tell(HeadRemoved(Path(model), name))
    return {
        "model": str(model),
        "removed": names,
        "bytes": sum(sizes),
        "remaining": remaining,
        "dry_run": dry_run,
    }


def rename_head(old: str, new: str, *, model: str | Path = "medusa-model") -> dict[str, Any]:
    """Give a head another name; its weights stay as they are.

    Args:
        old: name of the head.
        new: name it gets.
        model: the model folder.

    Returns:
        The folder and both names.

    Raises:
        UnknownNameError: there is no head `old`.
        NameTakenError: there is a head `new` already.
    """
    commit.rename_head(model, old, new)
    return {"model": str(model), "old": old, "new": new}
