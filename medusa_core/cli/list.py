"""`medusa list`: the heads of a model, what they cost, and whether they can run here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medusa_core.cli._options import examples, json_option, model_option
from medusa_core.cli._output import clean, count, emit, figure
from medusa_core.cli._table import table
from medusa_core.names import shortened

if TYPE_CHECKING:
    from rich.console import Console

    from medusa_core.errors import StoreError
    from medusa_core.plugin_host import Host, Registry
    from medusa_core.store.folder import ModelFolder
    from medusa_core.store.manifest import HeadManifest, Owner

_FIELDS = (
    *("name", "task", "head", "params", "gmacs", "share", "metric", "metrics", "data", "size"),
    *("owner", "head_owner", "state", "notes"),
)
COLUMNS = ("head", "task", "architecture", "params", "GMACs", "of backbone", "metric", "data")


@click.command(
    "list",
    short_help="Show the heads of a model.",
    epilog=examples("medusa list", "medusa list -m my-model --json"),
)
@model_option
@json_option
def command(model: Path, as_json: bool) -> None:
    """Show the heads of a model: size, cost beside the backbone, quality, training data.

    A head whose plugin is missing is an orphan: it is kept, and runs again once the plugin is
    back. One whose record is damaged is shown as such, and is in no other head's way; weights are
    looked at by `verify`.
    """
    from medusa_core.plugin_host import default_host
    from medusa_core.store.folder import ModelFolder

    with ModelFolder.open(model) as folder:
        result = describe(folder, default_host())
    emit(result, as_json, lambda console: _print(console, result))


def describe(folder: ModelFolder, host: Host) -> dict[str, Any]:
    """What `--json` prints."""
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
    unloaded = host.unloaded(owner.distribution)
    if unloaded is not None:
        return unloaded[0]
    reports = [r for r in host.reports if r.distribution == owner.distribution]
    need = shlex.quote(f"{owner.distribution}=={owner.version}")
    if reports:
        return f"{what} is not in {reports[0].provider}; run: pip install {need}"
    return f"plugin {owner.distribution} is missing; run: pip install {need}"


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


def _print(console: Console, result: dict[str, Any]) -> None:
    backbone, heads = result["backbone"], result["heads"]
    name = clean(backbone["name"])
    console.print(f"{name}: {count(backbone['params'])} params, {backbone['gmacs']:.2f} GMACs")
    if not heads:
        add = shlex.join(["medusa", "add-task", "TASK", "-m", str(result["model"])])
        console.print(f"No heads yet. Add one: {add} (see: medusa tasks)")
        return
    console.print(table(COLUMNS, map(_cells, heads), numeric=COLUMNS[3:6]))
    for head in heads:
        for note in head["notes"]:
            console.print(f"{head['name']} ({head['state']}): {note}")


def _cells(head: dict[str, Any]) -> tuple[object, ...]:
    metric = head["metric"]
    if metric is not None:
        metric = figure(metric["name"], metric["value"], metric["unit"])
    mark = "" if head["state"] == "ready" else f" ({head['state']})"
    return (
        head["name"] + mark,
        head["task"],
        head["head"],
        None if head["params"] is None else count(head["params"]),
        None if head["gmacs"] is None else f"{head['gmacs']:.3f}",
        None if head["share"] is None else f"{head['share']:.1%}",
        metric,
        shortened(", ".join(head["data"])) or None,
    )
