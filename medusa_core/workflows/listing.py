"""What is in a model folder, and whether its heads can run here. No torch."""

from __future__ import annotations

import shlex
from typing import Any

from medusa_core.errors import StoreError
from medusa_core.plugin_host.host import Host
from medusa_core.plugin_host.registry import Registry
from medusa_core.store.folder import ModelFolder
from medusa_core.store.manifest import HeadManifest, Owner

_FIELDS = (
    *("name", "task", "head", "params", "gmacs", "share", "metric", "metrics", "data", "size"),
    *("owner", "head_owner", "state", "notes"),
)


def describe(folder: ModelFolder, host: Host) -> dict[str, Any]:
    """The backbone and all heads, those included that cannot be used: what `list --json` prints."""
    backbone = folder.manifest.backbone
    return {
        "model": folder.path,
        "backbone": {
            "name": backbone.name,
            "params": backbone.params,
            "gmacs": backbone.gmacs,
            "fingerprint": backbone.fingerprint,
        },
        "heads": [
            _damaged(name, folder.damaged[name])
            if name in folder.damaged
            else _head(name, folder.heads[name], backbone.gmacs, host)
            for name in sorted(folder.manifest.heads)
        ],
    }


def _head(name: str, head: HeadManifest, backbone_gmacs: float, host: Host) -> dict[str, Any]:
    state, notes = _state(head, host)
    return {
        "name": name,
        "task": head.task,
        "head": head.head.name,
        "params": head.params,
        "gmacs": head.gmacs,
        "share": head.gmacs / backbone_gmacs,
        "metric": _metric(head, host),
        "metrics": head.metrics,
        "data": _data(head),
        "size": head.size,
        "owner": head.owner,
        "head_owner": head.head_owner,
        "state": state,
        "notes": notes,
    }


def _damaged(name: str, error: StoreError) -> dict[str, Any]:
    unknown = dict.fromkeys(_FIELDS)
    notes = [" ".join(filter(None, (error.message, error.hint)))]
    return {**unknown, "name": name, "data": [], "state": "damaged", "notes": notes}


def _state(head: HeadManifest, host: Host) -> tuple[str, list[str]]:
    """Whether a head is "ready", "changed" (other plugin version) or "orphan", and notes."""
    notes, state = [], "ready"
    parts: tuple[tuple[Registry[Any], str, Owner], ...] = (
        (host.tasks, head.task, head.owner),
        (host.heads, head.head.name, head.head_owner),
    )
    for registry, name, owner in parts:
        what = f"{registry.kind} {name!r}"
        entry = registry.find(name, owner.distribution)
        if entry is None:
            state = "orphan"
            notes.append(_missing(what, owner, host))
        elif entry.provider.version != owner.version:
            state = "changed" if state == "ready" else state
            notes.append(
                f"{what} is of {entry.provider} now, the head was trained with {owner.version}"
            )
    return state, list(dict.fromkeys(notes))


def _missing(what: str, owner: Owner, host: Host) -> str:
    mine = [r for r in host.reports if r.distribution == owner.distribution]
    loaded = [r.provider for r in mine if r.state == "loaded"]
    told = list(host.unloaded(owner.distribution) or ())[:1]
    if loaded or not told:  # it may be another version that has it
        missing = f"plugin {owner.distribution} is missing"
        need = shlex.quote(f"{owner.distribution}=={owner.version}")
        gone = f"{what} is not in {loaded[0]}" if loaded else missing
        told.append(f"{gone}; run: pip install {need}")
    return "; or ".join(told)


def _metric(head: HeadManifest, host: Host) -> dict[str, Any] | None:
    """The primary metric, as far as its task can say which that is."""
    entry = host.tasks.find(head.task, head.owner.distribution)
    if entry is None:
        return None
    primary = entry.spec.primary_metric
    if primary.name not in head.metrics:
        return None
    return {"name": primary.name, "value": head.metrics[primary.name], "unit": primary.unit}


def _data(head: HeadManifest) -> list[str]:
    data = head.provenance.get("data", [])
    if not isinstance(data, list):
        data = [data]
    names = [item.get("name", "?") if isinstance(item, dict) else item for item in data]
    return [str(name) for name in names]
